#!/usr/bin/env python3
"""Checks that one record is in a log, by a proof of the form C2SP tlog-proof. Python 3 and openssl, nothing else.

usage: check_proof.py PROOF RECORD VKEY

RECORD is the record's line in a file of its own; VKEY is the log's key as you were given it (name+id+key). Exit code 0:
the record is in the log that this key signs; 1: that is not shown; 2: it was called in another way.
"""
import base64
import hashlib
import subprocess
import sys
import tempfile


def sha256(data):
    return hashlib.sha256(data).digest()


def signed(text, lines, vkey):
    """Whether one of the lines behind the text is the key's own signature; openssl says so."""
    name, _id, key = vkey.split("+", 2)
    key = base64.b64decode(key)
    if len(key) != 33 or key[0] != 1 or text.split("\n")[0] != name:
        return False
    with tempfile.TemporaryDirectory() as folder:
        def put(what, data):
            with open(f"{folder}/{what}", "wb") as file:
                file.write(data)
            return f"{folder}/{what}"

        # Ed25519, as X.509 says it, and the key.
        der = put("key", bytes.fromhex("302a300506032b6570032100") + key[1:])
        body = put("body", text.encode())
        for line in lines.splitlines():
            _dash, signer, signature = line.split(" ")
            verify = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", der, "-rawin", "-in", body]
            verify += ["-sigfile", put("signature", base64.b64decode(signature)[4:])]
            if signer == name and subprocess.run(verify, capture_output=True, check=False).returncode == 0:
                return True
    return False


def leads_to(node, index, size, path):
    """The root that the hashes lead to from a leaf (RFC 9162, 2.1.3.2); None where they are too many or too few."""
    last = size - 1
    for other in path:
        if last == 0:
            return None
        if index & 1 or index == last:
            node = sha256(b"\x01" + other + node)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + other)
        index, last = index >> 1, last >> 1
    return node if last == 0 else None


def check(proof, record, vkey):
    with open(proof, encoding="utf-8", newline="") as file:
        head, text, lines = file.read().split("\n\n")
    with open(record, "rb") as file:
        line = file.read().removesuffix(b"\n").removesuffix(b"\r")
    header, *rest = head.split("\n")
    if rest[0].startswith("extra "):
        rest.pop(0)
    index, path = int(rest[0].removeprefix("index ")), [base64.b64decode(hash) for hash in rest[1:]]
    _origin, size, root = text.split("\n")[:3]
    if header != "c2sp.org/tlog-proof@v1" or not signed(text + "\n", lines, vkey):
        return "the checkpoint in it is not signed with this key"
    if index >= int(size) or leads_to(sha256(b"\x00" + line), index, int(size), path) != base64.b64decode(root):
        return "the record is not the one that was proven, or was changed"
    print(f"it holds: this is record {index} of the {size} that the key has signed")
    return None


if len(sys.argv) != 4 or not all(sys.argv):
    print("usage: check_proof.py PROOF RECORD VKEY, the log's key as you were given it (name+id+key)", file=sys.stderr)
    sys.exit(2)
try:
    fault = check(*sys.argv[1:])
except OSError as e:
    fault = str(e)
except (ValueError, IndexError) as e:
    fault = f"it is no proof, or this is no key ({e}); usage: check_proof.py PROOF RECORD VKEY"
if fault:
    print(f"FAULT: {fault}")
sys.exit(1 if fault else 0)
