// The gateway's node on a tailnet: Tailscale's tsnet, run by a child process of the gateway.
//
// It answers for the node's keys, its network stack and the three unix sockets that join it to its parent. It decides
// nothing: who may come in, and where to, is for the gateway to say.
package main

import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"time"

	"tailscale.com/ipn"
	"tailscale.com/tsnet"
)

// nodeRun is what start.c calls once the Go runtime stands.
//
//export nodeRun
func nodeRun(text *C.char) C.int {
	log.SetFlags(0)
	if err := run(C.GoString(text)); err != nil {
		say(status{State: "Failed", Error: err.Error()})
		log.Printf("the node ends: %v", err)
		return 1
	}
	return 0
}

// run joins the tailnet and serves the sockets until standard input ends.
func run(text string) error {
	config, err := parse(text)
	if err != nil {
		return err
	}
	stopped, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		// The gateway holds the other end: this ends with it, however it ends.
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()

	server := &tsnet.Server{
		Dir:        config.Dir,
		Hostname:   config.Hostname,
		ControlURL: config.ControlURL,
		AuthKey:    config.AuthKey,
		Ephemeral:  config.Ephemeral,
		UserLogf:   log.Printf,
		Logf:       func(format string, a ...any) { log.Printf("[backend] "+format, a...) },
	}
	server.AdvertiseTags = config.AdvertiseTags
	if err := server.Start(); err != nil {
		return err
	}
	defer closeWithin(server, 3*time.Second)
	local, err := server.LocalClient()
	if err != nil {
		return err
	}

	failed := make(chan error, 4)
	fail := func(err error) { failed <- err }
	// From here on the gateway can ask, also while nobody has logged the node in.
	if err := serveLocalAPI(local, config.Parent, fail); err != nil {
		return err
	}
	if err := serveDials(server, local, config.Parent, fail); err != nil {
		return err
	}
	listener, err := server.Listen("tcp", ":"+strconv.Itoa(int(config.Port)))
	if err != nil {
		return err
	}
	go func() { fail(serveAccepted(listener, config.Parent)) }()
	go func() { fail(watch(stopped, local)) }()

	select {
	case <-stopped.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// closeWithin leaves the tailnet, or gives up: the gateway waits for us.
func closeWithin(server *tsnet.Server, limit time.Duration) {
	closed := make(chan struct{})
	go func() {
		server.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(limit):
		log.Printf("the node did not close within %v", limit)
	}
}

// serveAccepted hands each connection from the tailnet to the gateway.
func serveAccepted(listener net.Listener, parent int) error {
	open := make(chan struct{}, mostAccepted)
	for {
		peer, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("the tailnet listener ended: %w", err)
		}
		select {
		case open <- struct{}{}:
		default:
			log.Printf("too many open connections: one more was closed")
			peer.Close()
			continue
		}
		go func() {
			defer func() { <-open }()
			if err := hand(peer, parent); err != nil {
				log.Printf("a connection from %v was closed: %v", peer.RemoteAddr(), err)
			}
		}()
	}
}

// hand gives one connection to the gateway, behind a header with the addresses that the network stack knows.
func hand(peer net.Conn, parent int) error {
	defer peer.Close()
	if _, funnel := peer.(*ipn.FunnelConn); funnel {
		return errors.New("it comes through Funnel, from no peer of the tailnet")
	}
	header, err := proxyHeader(peer.RemoteAddr(), peer.LocalAddr())
	if err != nil {
		return err
	}
	gateway, err := net.DialTimeout("unix", "accept.sock", 5*time.Second)
	if err != nil {
		return err
	}
	defer gateway.Close()
	if err := isProcess(gateway, parent); err != nil {
		return err
	}
	if _, err := gateway.Write(header); err != nil {
		return err
	}
	join(gateway, peer)
	return nil
}

func main() {}
