"""The gdb side of a program under debug: adoption, sentinels, slots, traps."""
