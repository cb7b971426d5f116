#!/bin/sh
# Verifies an assignment log with openssl, python3 and, where segments are compressed, zstd: no program of ours is run but
# recompute.py beside this file, which is short enough to read.
#
# usage: verify.sh [-k VKEY] LOG [CHECKPOINT...]
#
# LOG is the folder that has segments/ in it; a copy will do. CHECKPOINTs are notes of that log that were kept elsewhere, in
# files: only these show an end that was cut off, or a log that was restored from a backup, by somebody who has the relay's
# key.
# VKEY is the log's key as you have it from elsewhere (name+id+key); without it, that in the log's own log.json is taken.
#
# Exit code: 0 all is as it was signed, 1 it is not, 2 something is missing to tell, 3 what is signed is as it was, and
# records follow that are not signed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
fail() {
    printf 'verify.sh: %s\n' "$1" >&2
    exit 2
}

vkey=
if [ "${1-}" = -k ]; then
    vkey=${2-}
    [ -n "$vkey" ] || fail "-k wants the log's key: name+id+key"
    shift 2
fi
[ $# -ge 1 ] || fail "usage: verify.sh [-k VKEY] LOG [CHECKPOINT...]"
log=$1
shift
[ -d "$log/segments" ] || fail "$log has no folder segments/"
for tool in openssl python3 base64 sed awk; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done
if [ -z "$vkey" ]; then
    vkey=$(sed -n 's/.*"vkey": *"\([^"]*\)".*/\1/p' "$log/log.json")
    [ -n "$vkey" ] || fail "$log/log.json names no key; give one with -k"
    echo "key          $vkey"
    echo "             from the log itself: compare it with the one that you were given"
fi

work=$(mktemp -d) || fail "no temporary folder"
trap 'rm -rf "$work"' EXIT

# The key is everything behind the second plus sign: base64 has plus signs of its own. One byte says Ed25519.
name=${vkey%%+*}
printf '%s' "$vkey" | cut -d+ -f3- | base64 -d >"$work/raw" 2>/dev/null
[ "$(wc -c <"$work/raw")" -eq 33 ] && [ "$(head -c 1 "$work/raw" | od -An -tx1 | tr -d ' ')" = 01 ] ||
    fail "$vkey is no Ed25519 key (name+id+key)"
{
    printf '\060\052\060\005\006\003\053\145\160\003\041\000' # Ed25519, as X.509 says it
    tail -c 32 "$work/raw"
} >"$work/key.der"
openssl pkey -pubin -inform DER -in "$work/key.der" -out "$work/key.pem" || fail "openssl can't read the key"

# A note is the text, an empty line, and signatures: one of them must be right, whatever witnesses have added.
signed() {
    sed '/^$/,$d' "$1" >"$work/body"
    [ "$(head -n 1 "$work/body")" = "$name" ] || return 1
    sed '1,/^$/d' "$1" | awk -v name="$name" '$2 == name { print $3 }' >"$work/signatures"
    while read -r signature; do
        printf '%s' "$signature" | base64 -d 2>/dev/null | tail -c 64 >"$work/signature"
        if openssl pkeyutl -verify -pubin -inkey "$work/key.pem" -rawin -in "$work/body" \
            -sigfile "$work/signature" >/dev/null 2>&1; then
            return 0
        fi
    done <"$work/signatures"
    return 1
}

bad=0
given=$#
for note in "$log/checkpoint" "$log"/checkpoints/*.note "$@"; do
    if [ ! -e "$note" ]; then
        # Those of the log itself may be missing; one that was named may not.
        case "$note" in "$log/checkpoint" | "$log/checkpoints/*.note") continue ;; esac
        fail "$note is not there"
    fi
    # Of the log's own ones anything else is a fault; of those that were named, somebody's mistake.
    case "$note" in
    "$log/checkpoint" | "$log"/checkpoints/*) ;;
    *)
        [ ! -d "$note" ] || fail "$note is a folder; name the file in it that ends in .note"
        grep -q '^— ' -- "$note" || fail "$note is not a note; make one: \
sed -n 's/.*audit checkpoint *\([A-Za-z0-9+/=]*\).*/\1/p' $note | tail -n 1 | base64 -d > ANCHOR.note"
        ;;
    esac
    if signed "$note"; then
        set -- "$@" "$note"
    else
        echo "FAULT: $note is not signed with this key"
        bad=1
    fi
done
shift "$given"
[ $# -gt 0 ] || [ $bad = 1 ] || fail "$log has no checkpoint, and none was given: nothing is signed"

# Segments that were pruned are listed still; sha256sum wants at least one that is there.
listed() {
    while read -r _ file; do
        [ -e "$log/segments/$file" ] && return 0
    done <"$log/segments/SHA256SUMS"
    return 1
}
if [ -e "$log/segments/SHA256SUMS" ] && listed; then
    if (cd "$log/segments" && sha256sum -c --strict --quiet --ignore-missing SHA256SUMS >"$work/sums" 2>&1); then
        echo "SHA256SUMS   right"
    else
        sed 's/^/FAULT: /' "$work/sums"
        bad=1
    fi
fi

# Of a segment that is there in both forms, the plain one.
lines() {
    for file in "$log"/segments/*.jsonl "$log"/segments/*.jsonl.zst; do
        [ -e "$file" ] && basename "$file" .zst
    done | sort -u | while read -r segment; do
        if [ -e "$log/segments/$segment" ]; then
            cat "$log/segments/$segment"
        else
            zstd -dcq "$log/segments/$segment.zst" || echo "$segment.zst" >>"$work/unread"
        fi
    done
}
if ls "$log"/segments/*.zst >/dev/null 2>&1; then
    command -v zstd >/dev/null || fail "segments are compressed, and zstd is not installed"
fi
# The first segment is named by its first record: those before it were pruned, and left their hashes.
pruned=$(ls "$log/segments" | sed -n 's/^0*\([0-9]*\)\.jsonl.*/\1/p' | sort -n | head -n 1)
[ "${pruned:-0}" -eq 0 ] || set -- --pruned "$pruned" "$log/hashes" "$@"
lines | python3 "$here/recompute.py" "$@" >"$work/said"
found=$?
cat "$work/said"
[ $found = 0 ] || [ $found = 3 ] || bad=1
if [ -e "$work/unread" ]; then
    sed 's/^/FAULT: can not be decompressed: /' "$work/unread"
    bad=1
fi
[ $bad = 0 ] || exit 1
if [ $found = 3 ]; then
    unsigned=$(sed -n 's/^signed .* the last \([0-9]*\) .*/\1/p' "$work/said")
    echo "what is signed is as it was; $unsigned records are not signed"
    exit 3
fi
echo "all is as it was signed"
