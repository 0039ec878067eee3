package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tailscale.com/client/local"
	"tailscale.com/tsnet"
)

const (
	mostDials  = 256
	dialWithin = 10 * time.Second
)

// serveDials makes connections to peers for the gateway: a line "address:port" in, "ok" or why not out, then bytes.
func serveDials(server *tsnet.Server, node *local.Client, parent int, fail func(error)) error {
	listener, err := listen("dial.sock", parent)
	if err != nil {
		return err
	}
	open := make(chan struct{}, mostDials)
	go func() {
		for {
			gateway, err := listener.Accept()
			if err != nil {
				fail(err)
				return
			}
			select {
			case open <- struct{}{}:
				go func() {
					defer func() { <-open }()
					serveDial(server, node, gateway)
				}()
			default:
				gateway.Close()
			}
		}
	}()
	return nil
}

func serveDial(server *tsnet.Server, node *local.Client, gateway net.Conn) {
	defer gateway.Close()
	gateway.SetDeadline(time.Now().Add(dialWithin + 2*time.Second))
	// Not a byte more than the line is read: what follows is for the peer.
	line, err := bufio.NewReader(io.LimitReader(&byByte{gateway}, 64)).ReadString('\n')
	if err != nil {
		return
	}
	peer, err := dial(server, node, strings.TrimSuffix(line, "\n"))
	if err != nil {
		fmt.Fprintf(gateway, "error %v\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	defer peer.Close()
	if _, err := gateway.Write([]byte("ok\n")); err != nil {
		return
	}
	gateway.SetDeadline(time.Time{})
	join(gateway, peer)
}

// byByte reads one byte at a time, so that nothing is read ahead.
type byByte struct{ net.Conn }

func (b *byByte) Read(into []byte) (int, error) {
	if len(into) > 1 {
		into = into[:1]
	}
	return b.Conn.Read(into)
}

// dial connects to an address that is a peer's own in the network map. It goes through the node's network stack alone:
// tsnet's own Dial falls back to the network of this machine.
func dial(server *tsnet.Server, node *local.Client, to string) (net.Conn, error) {
	target, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, errors.New("not an address with a port")
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialWithin)
	defer cancel()
	status, err := node.Status(ctx)
	if err != nil {
		return nil, errors.New("the node does not answer")
	}
	if status.BackendState != "Running" {
		return nil, fmt.Errorf("the node is in state %s", status.BackendState)
	}
	known := false
	for _, peer := range status.Peer {
		known = known || (peer.InNetworkMap && slices.Contains(peer.TailscaleIPs, target.Addr()))
	}
	if !known {
		return nil, errors.New("no peer of this tailnet has that address")
	}
	dialer, ok := server.Sys().Dialer.GetOK()
	if !ok || dialer.NetstackDialTCP == nil {
		return nil, errors.New("the node has no network stack")
	}
	connection, err := dialer.NetstackDialTCP(ctx, target)
	if err != nil {
		log.Printf("dial %v: %v", target, err)
		return nil, err
	}
	return connection, nil
}
