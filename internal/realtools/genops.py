"""Reads pickles from the input, each behind its length (4 bytes, little-endian),
and prints for each the offsets of its opcodes as CPython's pickletools sees
them, then "." after STOP or "!" and the error. Nothing is imported or called:
pickletools only parses.
"""

import pickletools
import struct
import sys


def main():
    read, write = sys.stdin.buffer.read, sys.stdout.write
    while head := read(4):
        (n,) = struct.unpack("<I", head)
        stream, offsets, end = read(n), [], "."
        try:
            for _, _, at in pickletools.genops(stream):
                offsets.append(str(at))
        except Exception as e:
            end = "!" + repr(e).replace("\n", " ")
        write(" ".join(offsets) + end + "\n")
        sys.stdout.flush()


main()
