"""Files of anybody's, read with care; our own, whole or absent; downloads and the cache."""
