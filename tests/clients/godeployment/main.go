// A deployment's license service as far as the relay can tell: Go's net/http with its proxy setting and the root it
// trusts (standard library only; GO111MODULE=off go build).
//
// usage: godeployment PROXY-URL CA.pem < requests
//
// Each line of standard input is a request, {"method","url","body","bearer"}; each line of standard output is what came
// of it, {"status","body","reused"} or {"error"}: what the product would have for its own log.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"time"
)

type request struct{ Method, Url, Body, Bearer string }

type answer struct {
	Status string `json:"status"`
	Body   string `json:"body"`
	Reused bool   `json:"reused"`
	Error  string `json:"error"`
}

func main() {
	proxy, err := url.Parse(os.Args[1])
	if err != nil {
		panic(err)
	}
	pem, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		panic("no certificate in " + os.Args[2])
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool}}
	client := &http.Client{Transport: transport, Timeout: 60 * time.Second}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			panic(err)
		}
		line, err := json.Marshal(ask(client, r))
		if err != nil {
			panic(err)
		}
		os.Stdout.Write(append(line, '\n'))
	}
}

func ask(client *http.Client, r request) (a answer) {
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { a.Reused = i.Reused }}
	ctx := httptrace.WithClientTrace(context.Background(), trace)
	var body io.Reader
	if r.Body != "" {
		body = strings.NewReader(r.Body)
	}
	asked, err := http.NewRequestWithContext(ctx, r.Method, r.Url, body)
	if err != nil {
		return answer{Error: err.Error()}
	}
	asked.Header.Set("User-Agent", "Licenses/1.6.4 (windows) QSEfW")
	if r.Body != "" {
		asked.Header.Set("Content-Type", "application/json")
	}
	if r.Bearer != "" {
		asked.Header.Set("Authorization", "Bearer "+r.Bearer)
	}
	said, err := client.Do(asked)
	if err != nil {
		return answer{Error: err.Error()}
	}
	defer said.Body.Close()
	text, err := io.ReadAll(said.Body)
	if err != nil {
		return answer{Error: err.Error()}
	}
	a.Status, a.Body = said.Status, string(text)
	return a
}
