"""Rules and facts in pure Python: this room imports neither gdb nor ctypes."""
