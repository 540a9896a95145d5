"""What several papers train with, and how one run is trained; in several processes as in one."""
