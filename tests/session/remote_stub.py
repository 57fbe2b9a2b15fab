"""The smallest remote target: a stopped x86-64 program behind gdb's remote protocol, on stdio.

`target remote | python3 remote_stub.py`: registers and memory are zeros, breakpoints are refused.
"""

from __future__ import annotations

import sys

REGISTERS = b"0" * 2 * 536  # general, segment, x87 and SSE registers of the amd64 layout


def answer(packet: bytes) -> bytes:
    if packet.startswith(b"qSupported"):
        return b"PacketSize=1000"
    if packet == b"?":
        return b"S05"
    if packet == b"g":
        return REGISTERS
    if packet[:1] == b"m":
        return b"00" * int(packet[1:].split(b",")[1], 16)
    if packet[:1] in (b"H", b"D", b"G", b"P"):
        return b"OK"
    return b""  # "not supported"


def main() -> None:
    read, write = sys.stdin.buffer, sys.stdout.buffer
    while True:
        byte = read.read(1)
        if not byte:
            return
        if byte != b"$":
            continue
        packet = b""
        while (byte := read.read(1)) not in (b"#", b""):
            packet += byte
        read.read(2)
        if packet == b"k":
            return
        reply = answer(packet)
        write.write(b"+$%s#%02x" % (reply, sum(reply) & 255))
        write.flush()


if __name__ == "__main__":
    main()
