"""Linear neurons with jumps: equations in :mod:`.structure`, one kernel a device."""
