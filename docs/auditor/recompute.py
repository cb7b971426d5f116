#!/usr/bin/env python3
"""Reads the lines of a log from standard input, computes the tree over them (RFC 6962), and holds it against checkpoints.

usage: cat segments/*.jsonl | recompute.py CHECKPOINT...

Says which checkpoints the log is the same as. Exit code 1 where it differs from one, or is shorter, or where a line was
changed: each line has a number, and a sum over itself. Python 3 and nothing else; it does not check signatures, which
verify.sh does with openssl.
"""
import base64
import hashlib
import json
import sys


def sha256(data):
    return hashlib.sha256(data).digest()


wanted = {}
for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as note:
        _origin, size, root = note.read().split("\n")[:3]
    wanted.setdefault(int(size), []).append((name, base64.b64decode(root)))

faults, held = [], 0
stack = []  # the roots of the full subtrees so far, largest first


def root():
    if not stack:
        return sha256(b"")
    node = stack[-1]
    for left in reversed(stack[:-1]):
        node = sha256(b"\x01" + left + node)
    return node


def hold(count):
    global held
    for name, signed in wanted.pop(count, []):
        if root() == signed:
            held += 1
        else:
            faults.append(f"{name}: the first {count} records are not those that it signs")


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


count = 0
hold(0)
for line in sys.stdin.buffer:
    if not line.endswith(b"\n"):
        print(f"{len(line)} bytes at the end are no whole line yet")
        break
    line = line[:-1]
    fault = changed(line, count)
    if fault and len(faults) < 20:
        faults.append(f"record {count} {fault}")
    node, size = sha256(b"\x00" + line), count
    while size & 1:
        node = sha256(b"\x01" + stack.pop() + node)
        size >>= 1
    stack.append(node)
    count += 1
    hold(count)

for size in sorted(wanted):
    for name, _ in wanted[size]:
        faults.append(f"{name}: it is over {size} records, and the log has {count}")

print(f"records      {count}")
print(f"root         {base64.b64encode(root()).decode()}")
print(f"checkpoints  {held} hold")
for fault in faults:
    print(f"FAULT: {fault}")
sys.exit(1 if faults else 0)
