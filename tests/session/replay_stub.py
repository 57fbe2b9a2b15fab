"""A replay behind gdb's remote protocol, as rr's server speaks it: forwards and backwards.

`target extended-remote | python3 replay_stub.py ELF PLACE BEFORE AFTER`: six times the instruction
between BEFORE and AFTER stores two longs at PLACE, N and -N in the Nth.  Memory is that of the ELF
file; of what a store has hit one address is told, the last one that is watched.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

STORES = 6
RIP = 16 * 8  # in the amd64 layout of the ``g`` packet
REGISTERS = 536
FEATURES = b"PacketSize=1000;ReverseStep+;ReverseContinue+;swbreak+;hwbreak+;vContSupported+"


class Replay:
    def __init__(self, elf: str, place: int, before: int, after: int) -> None:
        self.file = Path(elf).read_bytes()
        self.place, self.before, self.after = place, before, after
        self.done = 0  # stores
        self.pc = before
        self.watched: set[int] = set()

    def memory(self, address: int, length: int) -> bytes:
        data = bytearray(self._of_file(address, length))
        pair = struct.pack("<qq", self.done, -self.done)
        for n in range(length):
            if 0 <= address + n - self.place < len(pair):
                data[n] = pair[address + n - self.place]
        return bytes(data)

    def _of_file(self, address: int, length: int) -> bytes:
        """By the program headers of a 64-bit ELF file that stands at 0."""
        start, size, count = struct.unpack_from("<Q14xHH", self.file, 32)
        for n in range(count):
            kind, _, offset, where, _, filled, _, _ = struct.unpack_from(
                "<IIQQQQQQ", self.file, start + n * size
            )
            if kind == 1 and where <= address < where + filled:
                return self.file[offset + address - where :][:length].ljust(length, b"\0")
        return bytes(length)

    def go(self, forwards: bool) -> bytes:
        """To the next store, or the end of the recording."""
        if self.done == (STORES if forwards else 0):
            return b"T05thread:1;replaylog:%s;" % (b"end" if forwards else b"begin")
        self.done += 1 if forwards else -1
        self.pc = self.after if forwards else self.before
        hit = [x for x in sorted(self.watched) if self.place <= x < self.place + 16]
        if not hit:
            return self.go(forwards)
        return b"T05thread:1;watch:%x;" % hit[-1]

    def answer(self, packet: bytes) -> bytes:
        name = packet[:1]
        if packet.startswith(b"qSupported"):
            return FEATURES
        if packet in (b"?", b"s", b"bs") or packet.startswith(b"vCont;s"):
            return b"T05thread:1;"
        if packet == b"vCont?":
            return b"vCont;c;C;s;S"
        if packet.startswith((b"vCont;c", b"vCont;C")) or packet in (b"c", b"bc"):
            return self.go(packet != b"bc")
        if packet == b"g":
            data = bytearray(REGISTERS)
            struct.pack_into("<Q", data, RIP, self.pc)
            return data.hex().encode()
        if name == b"m":
            address, length = (int(x, 16) for x in packet[1:].split(b","))
            return self.memory(address, length).hex().encode()
        if packet[:3] in (b"Z2,", b"z2,"):
            address = int(packet.split(b",")[1], 16)
            (self.watched.add if name == b"Z" else self.watched.discard)(address)
            return b"OK"
        if packet == b"qfThreadInfo":
            return b"m1"
        if packet == b"qsThreadInfo":
            return b"l"
        if packet == b"qC":
            return b"QC1"
        if packet == b"qAttached":
            return b"1"
        if name in (b"H", b"T", b"D", b"!"):
            return b"OK"
        return b""  # "not supported"


def main() -> None:
    replay = Replay(sys.argv[1], *(int(x, 16) for x in sys.argv[2:5]))
    read, write = sys.stdin.buffer, sys.stdout.buffer
    while byte := read.read(1):
        if byte != b"$":
            continue
        packet = b""
        while (byte := read.read(1)) not in (b"#", b""):
            packet += byte
        read.read(2)
        if packet == b"k" or packet.startswith(b"vKill"):
            return
        reply = replay.answer(packet)
        write.write(b"+$%s#%02x" % (reply, sum(reply) & 255))
        write.flush()


if __name__ == "__main__":
    main()
