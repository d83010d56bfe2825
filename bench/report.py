#!/usr/bin/env python3
"""Turn the lines that measure.py noted into tables.

    report.py RESULTS SIZE SMALL_SIZE
"""

import statistics
import sys
from collections import defaultdict

# What, the side that is compared, the side beside it, the ratio it must reach;
# None for a floor, which is only shown.
RATIOS = [
    ("push that converts", "weightseal", "oras push of the converted file", 1.0),
    ("push that converts", "weightseal", "torch.load + save, oras push, cosign attest", 1 / 3),
    ("push that converts", "weightseal", "curl, which only sends the bytes", None),
    ("push of native safetensors", "weightseal", "oras push", 1.0),
    ("verified pull", "weightseal", "oras pull", 1.0),
    ("convert to a local file", "weightseal", "cp of the same bytes", 1.1),
    ("convert to a local file", "weightseal", "torch.load + save in Python", 1 / 5),
    ("scan of 5,000 files", "weightseal", "head -c 4096 of each", 1.5),
    ("scan of a model in a registry", "weightseal", "oras pull", 1.0),
    ("verify of a small model", "weightseal", "cosign verify-attestation", 1.0),
    ("--help", "weightseal", "cosign", 0.6),
    ("completion of a word", "weightseal", "cosign --help", 0.6),
]
# What must take less than so many milliseconds.
LIMITS = [
    ("scan of the checkpoint", 50),
    ("inspect of the checkpoint", 50),
    ("scan of the converted file", 50),
    ("inspect of the converted file", 50),
]
# What must take less than so many milliseconds after the start.
START = "start of the program"
AFTER_START = [("scan of a torch zip file", 50), ("scan of a legacy torch file", 50)]
# What must go through so many of its megabytes in a second, start included.
RATES = [("scan of a pickle of 63 MB", 63, 100)]
MEMORY_MIB = 100
# What, the side beside it, the ratio of peak memory to reach.
MEMORY_RATIOS = [("convert to a local file", "torch.load + save in Python", 1 / 10)]


def seconds(values):
    m = statistics.median(values)
    unit, f = ("s", 1) if m >= 1 else ("ms", 1000)
    digits = 2 if unit == "s" else 1
    return f"{m * f:.{digits}f} {unit} ({min(values) * f:.{digits}f}-{max(values) * f:.{digits}f})"


def main():
    path, size, small = sys.argv[1:]
    wall, cpu, memory, peak = defaultdict(list), defaultdict(list), defaultdict(int), defaultdict(int)
    for line in open(path):
        row, side, of, w, c, rss = line.rstrip("\n").split("\t")
        if of == size:
            wall[row, side].append(float(w))
            cpu[row, side].append(float(c))
            peak[row, side] = max(peak[row, side], int(rss) / 1024)
        if side == "weightseal":
            memory[row, of] = max(memory[row, of], int(rss) / 1024)

    def verdict(ok):
        return "yes" if ok else "**no**"

    print("| what | weightseal, median (range) | beside it | its median (range) | ratio | CPU ratio | required | reached |")
    print("|---|---|---|---|---|---|---|---|")
    for row, ours, other, most in RATIOS:
        a, b = wall.get((row, ours)), wall.get((row, other))
        if not a or not b:
            continue
        ratio = statistics.median(a) / statistics.median(b)
        work = statistics.median(cpu[row, ours]) / statistics.median(cpu[row, other])
        must = "| |" if most is None else f"| <= {most:.2f}x | {verdict(ratio <= most)} |"
        print(f"| {row} | {seconds(a)} | {other} | {seconds(b)} | {ratio:.2f}x | {work:.2f}x {must}")
    for row, most in LIMITS:
        a = wall.get((row, "weightseal"))
        if a:
            print(f"| {row} | {seconds(a)} | | | | | < {most} ms | {verdict(statistics.median(a) * 1000 < most)} |")
    start = wall.get((START, "weightseal"))
    if start:
        print(f"| {START} | {seconds(start)} | | | | | | |")
    for row, most in AFTER_START:
        a = wall.get((row, "weightseal"))
        if a and start:
            after = (statistics.median(a) - statistics.median(start)) * 1000
            work = (statistics.median(cpu[row, "weightseal"]) - statistics.median(cpu[START, "weightseal"])) * 1000
            print(f"| {row} | {seconds(a)} | | | | | < {most} ms after the start: {after:.1f} ms, CPU {work:.1f} ms | {verdict(after < most)} |")
    for row, megabytes, least in RATES:
        a = wall.get((row, "weightseal"))
        if a:
            rate = megabytes / statistics.median(a)
            work = megabytes / statistics.median(cpu[row, "weightseal"])
            print(f"| {row} | {seconds(a)} | | | | | >= {least} MB/s: {rate:.0f} MB/s, of CPU time {work:.0f} MB/s | {verdict(rate >= least)} |")

    print(f"\n| peak resident memory | {small} MB | {size} MB | required | reached |")
    print("|---|---|---|---|---|")
    for row in dict.fromkeys(row for row, _ in memory):
        a, b = memory.get((row, small)), memory.get((row, size))
        if a and b:
            print(f"| {row} | {a:.0f} MiB | {b:.0f} MiB | <= {MEMORY_MIB} MiB | {verdict(max(a, b) <= MEMORY_MIB)} |")
    for row, other, most in MEMORY_RATIOS:
        a, b = peak.get((row, "weightseal")), peak.get((row, other))
        if a and b:
            print(f"\nPeak memory, {row}: {a:.0f} MiB beside {b:.0f} MiB of {other}, {a / b:.3f}x; required <= {most:.2f}x, reached: {verdict(a / b <= most)}.")


main()
