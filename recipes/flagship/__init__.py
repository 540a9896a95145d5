"""The recommended network for spoken words as spike recordings."""
