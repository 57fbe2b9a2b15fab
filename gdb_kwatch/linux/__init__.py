"""One module for each kernel interface; this room imports ctypes where it must, never gdb."""
