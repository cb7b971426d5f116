// How a back end in Go reads a body (standard library only; GO111MODULE=off go build).
//
// Standard input holds bodies, each behind its length (4 bytes, big endian). For each body, standard output has a line for
// every different reading, NAME TAB JSON, and then an empty line. The JSON is what Go has read, written again by Go, so it
// has no member twice, no odd spelling and no invalid text. A reading that fails has no line.
//
// The ways to read are json.Unmarshal and the first value of a json.Decoder, each into a struct whose members are strings,
// into a struct whose members take any value, and into any value at all, of which a program looks up the names that it
// knows.
//
// With the argument "folds", it writes each letter that has another case, and the first of its cases in Unicode's order, both
// as numbers on a line: this is how names of members are compared.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"unicode"
)

// thing has the members of the built-in vocabulary: of a message, of what holds bases and patches, of a base, of a patch and
// of an element of a capacity report.
type thing[T, N, B any] struct {
	Source           *T               `json:"source,omitempty"`
	SourceID         *T               `json:"sourceId,omitempty"`
	SignedLicenseKey *T               `json:"signedLicenseKey,omitempty"`
	LicenseKey       *T               `json:"licenseKey,omitempty"`
	Key              *T               `json:"key,omitempty"`
	Slk              *T               `json:"slk,omitempty"`
	License          *T               `json:"license,omitempty"`
	Cause            *T               `json:"cause,omitempty"`
	ID               *N               `json:"id,omitempty"`
	Allotment        *T               `json:"allotment,omitempty"`
	Name             *T               `json:"name,omitempty"`
	Month            *T               `json:"month,omitempty"`
	Consumption      *N               `json:"consumption,omitempty"`
	Version          *N               `json:"version,omitempty"`
	Instance         *T               `json:"instance,omitempty"`
	Subject          *T               `json:"subject,omitempty"`
	Created          *T               `json:"created,omitempty"`
	Rejection        *T               `json:"rejection,omitempty"`
	Deleted          *B               `json:"deleted,omitempty"`
	Operation        *T               `json:"operation,omitempty"`
	Action           *T               `json:"action,omitempty"`
	Op               *T               `json:"op,omitempty"`
	Bases            []thing[T, N, B] `json:"bases,omitempty"`
	Patches          []thing[T, N, B] `json:"patches,omitempty"`
	Metadata         *thing[T, N, B]  `json:"metadata,omitempty"`
}

type strict = thing[string, json.Number, bool]
type loose = thing[any, any, any]

// names are those of the members above, as a program looks them up in a map.
var names = func() map[string]bool {
	names := map[string]bool{}
	of := reflect.TypeOf(strict{})
	for i := 0; i < of.NumField(); i++ {
		tag := of.Field(i).Tag.Get("json")
		names[tag[:bytes.IndexByte([]byte(tag), ',')]] = true
	}
	return names
}()

// known takes out of a value what a program would look up in it. What holds something else still holds something.
func known(value any) any {
	switch value := value.(type) {
	case map[string]any:
		kept := map[string]any{}
		for name, member := range value {
			if names[name] {
				kept[name] = known(member)
			}
		}
		if len(kept) == 0 && len(value) > 0 {
			kept["unknown"] = true
		}
		return kept
	case []any:
		kept := []any{}
		for _, element := range value {
			kept = append(kept, known(element))
		}
		return kept
	}
	return value
}

// exact is false where a double stands for more than one whole number: a back end that read numbers so would mistake half of
// all license numbers for their neighbours, so it is no back end that there can be.
func exact(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Float64:
		return math.Abs(value.Float()) < 1<<53
	case reflect.Pointer, reflect.Interface:
		return value.IsNil() || exact(value.Elem())
	case reflect.Slice:
		for i := 0; i < value.Len(); i++ {
			if !exact(value.Index(i)) {
				return false
			}
		}
	case reflect.Struct:
		for i := 0; i < value.NumField(); i++ {
			if !exact(value.Field(i)) {
				return false
			}
		}
	case reflect.Map:
		for members := value.MapRange(); members.Next(); {
			if !exact(members.Value()) {
				return false
			}
		}
	}
	return true
}

type way struct {
	name string
	read func(body []byte, into any) error
}

func unmarshal(body []byte, into any) error { return json.Unmarshal(body, into) }

func decode(body []byte, into any) error { return json.NewDecoder(bytes.NewReader(body)).Decode(into) }

func decodeNumbers(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	return decoder.Decode(into)
}

type reading struct {
	name string
	what any
}

func readings(body []byte) (all []reading) {
	for _, way := range []way{{"Unmarshal", unmarshal}, {"Decode", decode}, {"Decode with UseNumber", decodeNumbers}} {
		add := func(err error, into string, what any) {
			if err == nil && exact(reflect.ValueOf(what)) {
				all = append(all, reading{way.name + " into " + into, what})
			}
		}
		var one strict
		add(way.read(body, &one), "a struct", &one)
		var list []strict
		add(way.read(body, &list), "a list of structs", &list)
		var looseOne loose
		add(way.read(body, &looseOne), "a struct of any", &looseOne)
		var looseList []loose
		add(way.read(body, &looseList), "a list of structs of any", &looseList)
		var value any
		err := way.read(body, &value)
		add(err, "any", known(value))
	}
	return all
}

func writeFolds() {
	for letter := rune(0); letter <= unicode.MaxRune; letter++ {
		first := letter
		for other := unicode.SimpleFold(letter); other != letter; other = unicode.SimpleFold(other) {
			if other < first {
				first = other
			}
		}
		if first != letter {
			fmt.Println(letter, first)
		}
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "folds" {
		writeFolds()
		return
	}
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	for {
		var length uint32
		if err := binary.Read(in, binary.BigEndian, &length); err == io.EOF {
			return
		} else if err != nil {
			panic(err)
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(in, body); err != nil {
			panic(err)
		}
		seen := map[string]bool{}
		for _, reading := range readings(body) {
			text, err := json.Marshal(reading.what)
			if err != nil {
				panic(err)
			}
			if !seen[string(text)] {
				seen[string(text)] = true
				out.WriteString(reading.name + "\t")
				out.Write(text)
				out.WriteByte('\n')
			}
		}
		out.WriteByte('\n')
		out.Flush()
	}
}
