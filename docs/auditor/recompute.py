#!/usr/bin/env python3
"""Reads the lines of a log from standard input, computes the tree over them (RFC 6962), and holds it against checkpoints.

usage: cat segments/*.jsonl | recompute.py [--pruned COUNT HASHES] CHECKPOINT...

Of a log that was pruned the first COUNT records are gone; their hashes, in the folder HASHES, stand in for them.

Says which checkpoints the log is the same as. Exit code 1 where it differs from one, or is shorter, or where a line was
changed: each line has a number, and a sum over itself. Exit code 3 where all that holds, and records follow that no
checkpoint covers: a number and a sum can be written by anybody. Python 3 and nothing else; it does not check signatures,
which verify.sh does with openssl.
"""
import base64
import hashlib
import json
import sys


def sha256(data):
    return hashlib.sha256(data).digest()


names, pruned = sys.argv[1:], 0
if names[:1] == ["--pruned"]:
    pruned, hashes, names = int(names[1]), names[2], names[3:]

wanted = {}
for name in names:
    with open(name, encoding="utf-8") as note:
        _origin, size, root = note.read().split("\n")[:3]
    wanted.setdefault(int(size), []).append((name, base64.b64decode(root)))

faults, held = [], []
count, stack = 0, []  # of leaves; the roots of the full subtrees so far, largest first


def root():
    if not stack:
        return sha256(b"")
    node = stack[-1]
    for left in reversed(stack[:-1]):
        node = sha256(b"\x01" + left + node)
    return node


def hold():
    for name, signed in wanted.pop(count, []):
        if root() == signed:
            held.append(count)
        else:
            faults.append(f"{name}: the first {count} records are not those that it signs")


def push(node):
    """Adds a leaf: each full subtree of the same size on its left becomes one with it."""
    global count
    size = count
    while size & 1:
        node = sha256(b"\x01" + stack.pop() + node)
        size >>= 1
    stack.append(node)
    count += 1
    hold()


def tile(number, width):
    """The first so many hashes of a tile, which has 256 of 32 bytes (C2SP tlog-tiles: 000 to 999, x001/000 and so on)."""
    name, rest = f"{number % 1000:03}", number // 1000
    while rest:
        name, rest = f"x{rest % 1000:03}/{name}", rest // 1000
    for path in (f"{hashes}/0/{name}.p/{width}", f"{hashes}/0/{name}"):
        try:
            with open(path, "rb") as file:
                data = file.read(32 * width)
        except OSError:
            continue
        if len(data) == 32 * width:
            return [data[at : at + 32] for at in range(0, len(data), 32)]
    print(f"FAULT: {path} is missing or damaged: it has hashes of records that were pruned, and nothing proves the rest")
    sys.exit(1)


def changed(line, number):
    """Why this is not the line with this number as it was written, if it isn't."""
    body, mark, total = line.rpartition(b',"sum":"')
    if not mark or sha256(body + b"}").hex()[:16].encode() + b'"}' != total:
        return "was changed: its sum does not match what it says"
    try:
        stored = json.loads(line)["event"]["sequence"]
    except (ValueError, KeyError, TypeError):
        return "is no record"
    return None if stored == number else f"has the number {stored}: records were removed, added or moved"


hold()
for first in range(0, pruned, 256):
    for leaf in tile(first // 256, min(256, pruned - first)):
        push(leaf)
told = {}  # by which record: how many records were pruned
for line in sys.stdin.buffer:
    if not line.endswith(b"\n"):
        print(f"{len(line)} bytes at the end are no whole line yet")
        break
    line = line[:-1]
    fault = changed(line, count)
    if fault and len(faults) < 20:
        faults.append(f"record {count} {fault}")
    if not fault and b'"audit.pruned"' in line and json.loads(line)["event"]["action"] == "audit.pruned":
        told[count] = json.loads(line)["qlik"]["to_index"] + 1
    push(sha256(b"\x00" + line))

if pruned and not any(record < max(held, default=0) and pruned <= upto for record, upto in told.items()):
    faults.append(f"records 0 to {pruned - 1} are not there, and no record that is signed says that they were pruned")
for size in sorted(wanted):
    for name, _ in wanted[size]:
        faults.append(f"{name}: it is over {size} records, and the log has {count}")

print(f"records      {count}")
if pruned:
    print(f"pruned       {pruned} of them, which left their hashes")
print(f"root         {base64.b64encode(root()).decode()}")
print(f"checkpoints  {len(held)} hold")
for fault in faults:
    print(f"FAULT: {fault}")
covered = max(held, default=0)
if covered < count and not faults:
    print(f"signed       {covered} of {count}; the last {count - covered} are NOT signed: anybody can have written them")
    sys.exit(3)
sys.exit(1 if faults else 0)
