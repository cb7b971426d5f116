// Does Go's own transparency log believe this one? (golang.org/x/mod/sumdb, of Debian's golang-golang-x-mod-dev; builds with
// GO111MODULE=off go build)
//
// usage: gonote VKEY CHECKPOINT... < lines     "accepted", or why not and exit code 1
//
// The tree of each checkpoint is computed, the first and the last record of it are proved to be in it, and each smaller
// checkpoint is proved to have grown into the largest.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var read []tlog.Hash
	for _, index := range indexes {
		if index >= int64(len(s)) {
			return nil, fmt.Errorf("there is no hash %d", index)
		}
		read = append(read, s[index])
	}
	return read, nil
}

type checkpoint struct {
	file string
	size int64
	root tlog.Hash
}

func check(err error) {
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

func open(file string, known note.Verifiers, origin string) (read checkpoint) {
	text, err := os.ReadFile(file)
	check(err)
	opened, err := note.Open(text, known)
	check(err)
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != origin {
		check(fmt.Errorf("%s is of the log %s", file, lines[0]))
	}
	read.file = file
	read.size, err = strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	if copy(read.root[:], root) != tlog.HashSize {
		check(fmt.Errorf("%s has no root", file))
	}
	return
}

func main() {
	verifier, err := note.NewVerifier(os.Args[1])
	check(err)
	var all []checkpoint
	for _, file := range os.Args[2:] {
		all = append(all, open(file, note.VerifierList(verifier), verifier.Name()))
	}
	sort.Slice(all, func(i, j int) bool { return all[i].size < all[j].size })

	var hashes stored
	var leaves []tlog.Hash
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		check(err)
		leaf := tlog.RecordHash(bytes.TrimSuffix(line, []byte("\n")))
		more, err := tlog.StoredHashesForRecordHash(int64(len(leaves)), leaf, hashes)
		check(err)
		leaves, hashes = append(leaves, leaf), append(hashes, more...)
	}
	newest := all[len(all)-1]
	for _, one := range all {
		if one.size > int64(len(leaves)) {
			check(fmt.Errorf("%s is over %d records, and there are %d", one.file, one.size, len(leaves)))
		}
		root, err := tlog.TreeHash(one.size, hashes)
		check(err)
		if root != one.root {
			check(fmt.Errorf("%s has another root", one.file))
		}
		for _, index := range []int64{0, one.size - 1} {
			proof, err := tlog.ProveRecord(one.size, index, hashes)
			check(err)
			check(tlog.CheckRecord(proof, one.size, one.root, index, leaves[index]))
		}
		grown, err := tlog.ProveTree(newest.size, one.size, hashes)
		check(err)
		check(tlog.CheckTree(grown, newest.size, newest.root, one.size, one.root))
	}
	fmt.Printf("accepted: %d records, %d checkpoints\n", len(leaves), len(all))
}
