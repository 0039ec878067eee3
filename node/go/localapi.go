package main

import (
	"io"
	"log"
	"net/http"
	"regexp"
	"time"

	"tailscale.com/client/local"
)

// asked is what the gateway may ask: nothing that changes the node.
var asked = regexp.MustCompile(`^/localapi/v0/(whois|status|cert/[A-Za-z0-9.-]+)$`)

// serveLocalAPI passes the gateway's questions to the node's LocalAPI.
func serveLocalAPI(node *local.Client, parent int, fail func(error)) error {
	listener, err := listen("localapi.sock", parent)
	if err != nil {
		return err
	}
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.Default(),
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ask(node, w, r) }),
	}
	go func() { fail(server.Serve(listener)) }()
	return nil
}

func ask(node *local.Client, w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !asked.MatchString(r.URL.Path) {
		http.Error(w, "not something the gateway asks", http.StatusForbidden)
		return
	}
	question, err := http.NewRequestWithContext(r.Context(), http.MethodGet,
		"http://local-tailscaled.sock"+r.URL.Path+"?"+r.URL.RawQuery, nil)
	if err != nil {
		http.Error(w, "not a question", http.StatusBadRequest)
		return
	}
	answer, err := node.DoLocalRequest(question)
	if err != nil {
		http.Error(w, "the node does not answer", http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	for _, name := range []string{"Content-Type", "Tailscale-Version", "Tailscale-Cap"} {
		if value := answer.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(answer.StatusCode)
	io.Copy(w, answer.Body)
}
