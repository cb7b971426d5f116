// Does Go believe these chains? (standard library only; builds with GO111MODULE=off go build)
//
// usage: goverify ROOT.pem CHAIN.pem NAME [CHAIN.pem NAME ...]     one line a chain: "accepted", or "refused: " and why
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func certificates(path string) (all []*x509.Certificate) {
	rest, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			panic(err)
		}
		all = append(all, certificate)
	}
}

func main() {
	roots := x509.NewCertPool()
	roots.AddCert(certificates(os.Args[1])[0])
	for i := 2; i+1 < len(os.Args); i += 2 {
		chain := certificates(os.Args[i])
		between := x509.NewCertPool()
		for _, certificate := range chain[1:] {
			between.AddCert(certificate)
		}
		_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: os.Args[i+1]})
		if err != nil {
			fmt.Println("refused:", err)
		} else {
			fmt.Println("accepted")
		}
	}
}
