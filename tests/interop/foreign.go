// Foreign answers questions about notes and trees with golang.org/x/mod/sumdb/note and golang.org/x/mod/sumdb/tlog alone.
//
// It reads one JSON array of requests and writes one JSON array of answers. Bytes are base64. An answer has Error where the
// Go package refused.
package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	Do     string
	Name   string
	Key    string   // a signing key
	Keys   []string // verifier keys
	Text   []byte
	Leaves [][]byte
	Folder string
	Size   int64
	Old    int64
	Index  int64
	Root   []byte
	Before []byte // the root of the Old tree
	Leaf   []byte
	Proof  [][]byte
}

type answer struct {
	Error      string
	Key        string
	Keys       []string
	Text       []byte
	Verified   []string
	Unverified []string
	Runes      []int
	Root       []byte
	Proof      [][]byte
	Proofs     [][][]byte
}

func main() {
	var requests []request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	answers := make([]answer, len(requests))
	for i, r := range requests {
		a, err := respond(r)
		if err != nil {
			a.Error = err.Error()
		}
		answers[i] = a
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
}

func respond(r request) (answer, error) {
	switch r.Do {
	case "generate":
		private, public, err := note.GenerateKey(rand.Reader, r.Name)
		return answer{Key: private, Keys: []string{public}}, err
	case "names":
		return names()
	case "open":
		return open(r)
	case "sign":
		return sign(r)
	case "tree":
		return tree(r)
	case "check record":
		return answer{}, tlog.CheckRecord(hashes(r.Proof), r.Size, hash(r.Root), r.Index, hash(r.Leaf))
	case "check tree":
		return answer{}, tlog.CheckTree(hashes(r.Proof), r.Size, hash(r.Root), r.Old, hash(r.Before))
	case "follow":
		return follow(r)
	}
	return answer{}, errors.New("unknown request")
}

func open(r request) (answer, error) {
	var known []note.Verifier
	for _, key := range r.Keys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return answer{}, err
		}
		known = append(known, verifier)
	}
	n, err := note.Open(r.Text, note.VerifierList(known...))
	if err != nil {
		return answer{}, err
	}
	return answer{Text: []byte(n.Text), Verified: lines(n.Sigs), Unverified: lines(n.UnverifiedSigs)}, nil
}

func lines(signatures []note.Signature) []string {
	found := []string{}
	for _, s := range signatures {
		found = append(found, "\u2014 "+s.Name+" "+s.Base64+"\n")
	}
	return found
}

func sign(r request) (answer, error) {
	signer, err := note.NewSigner(r.Key)
	if err != nil {
		return answer{}, err
	}
	n := &note.Note{Text: string(r.Text)}
	if len(r.Keys) > 0 {
		verifier, err := note.NewVerifier(r.Keys[0])
		if err != nil {
			return answer{}, err
		}
		if n, err = note.Open(r.Text, note.VerifierList(verifier)); err != nil {
			return answer{}, err
		}
	}
	signed, err := note.Sign(n, signer)
	return answer{Text: signed}, err
}

// names lists the code points of the basic plane that no key name may have.
func names() (answer, error) {
	var a answer
	for r := rune(0); r <= 0xffff; r++ {
		if r >= 0xd800 && r <= 0xdfff {
			continue
		}
		key, err := note.NewEd25519VerifierKey("a"+string(r)+"b", make([]byte, 32))
		if err != nil {
			return a, err
		}
		if _, err := note.NewVerifier(key); err != nil {
			a.Runes = append(a.Runes, int(r))
		}
	}
	return a, nil
}

// tree gives the root of the first Size records, every record proof in it and every proof of the trees before it.
func tree(r request) (answer, error) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, i := range indexes {
			found = append(found, stored[i])
		}
		return found, nil
	})
	for i, leaf := range r.Leaves {
		more, err := tlog.StoredHashes(int64(i), leaf, reader)
		if err != nil {
			return answer{}, err
		}
		stored = append(stored, more...)
	}
	var a answer
	size := int64(len(r.Leaves))
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		return a, err
	}
	a.Root = root[:]
	for i := int64(0); i < size; i++ {
		proof, err := tlog.ProveRecord(size, i, reader)
		if err != nil {
			return a, err
		}
		a.Proofs = append(a.Proofs, data(proof))
	}
	for old := int64(1); old <= size; old++ {
		proof, err := tlog.ProveTree(size, old, reader)
		if err != nil {
			return a, err
		}
		a.Proofs = append(a.Proofs, data(proof))
	}
	return a, nil
}

// follow is a client of a tiled log: it believes Root, reads tiles from Folder, and proves that the tree of Old leaves with the
// root Before came before, and that record Index is Leaf.
func follow(r request) (answer, error) {
	reader := tlog.TileHashReader(tlog.Tree{N: r.Size, Hash: hash(r.Root)}, folder(r.Folder))
	root, err := tlog.TreeHash(r.Size, reader)
	if err != nil {
		return answer{}, err
	}
	record, err := tlog.ProveRecord(r.Size, r.Index, reader)
	if err != nil {
		return answer{}, err
	}
	if err := tlog.CheckRecord(record, r.Size, root, r.Index, hash(r.Leaf)); err != nil {
		return answer{}, err
	}
	consistency, err := tlog.ProveTree(r.Size, r.Old, reader)
	if err != nil {
		return answer{}, err
	}
	if err := tlog.CheckTree(consistency, r.Size, root, r.Old, hash(r.Before)); err != nil {
		return answer{}, err
	}
	return answer{Root: root[:], Proofs: [][][]byte{data(record), data(consistency)}}, nil
}

// folder is a tlog.TileReader over files named as tlog-tiles names them: as Go does, without the height.
type folder string

func (f folder) Height() int { return 8 }

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(string(f), strings.TrimPrefix(tile.Path(), "tile/8/")))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func hash(data []byte) (h tlog.Hash) {
	copy(h[:], data)
	return h
}

func hashes(proof [][]byte) (found []tlog.Hash) {
	for _, data := range proof {
		found = append(found, hash(data))
	}
	return found
}

func data(proof []tlog.Hash) [][]byte {
	found := [][]byte{}
	for _, h := range proof {
		h := h
		found = append(found, h[:])
	}
	return found
}
