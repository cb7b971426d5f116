// Does Go's own transparency log believe a proof of one record? (golang.org/x/mod/sumdb, of Debian's
// golang-golang-x-mod-dev; builds with GO111MODULE=off go build)
//
// usage: goproof VKEY PROOF RECORD     "accepted", or why not and exit code 1
package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error) {
	if err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

func main() {
	verifier, err := note.NewVerifier(os.Args[1])
	check(err)
	proof, err := os.ReadFile(os.Args[2])
	check(err)
	record, err := os.ReadFile(os.Args[3])
	check(err)

	head, signed, found := strings.Cut(string(proof), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != "c2sp.org/tlog-proof@v1" {
		check(fmt.Errorf("it is no proof"))
	}
	lines = lines[1:]
	if strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	check(err)
	var path tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		check(err)
		path = append(path, hash)
	}

	opened, err := note.Open([]byte(signed), note.VerifierList(verifier))
	check(err)
	text := strings.Split(opened.Text, "\n")
	if text[0] != verifier.Name() {
		check(fmt.Errorf("it is of the log %s", text[0]))
	}
	size, err := strconv.ParseInt(text[1], 10, 64)
	check(err)
	root, err := tlog.ParseHash(text[2])
	check(err)
	leaf := tlog.RecordHash(bytes.TrimSuffix(record, []byte("\n")))
	check(tlog.CheckRecord(path, size, root, index, leaf))
	fmt.Printf("accepted: record %d of %d\n", index, size)
}
