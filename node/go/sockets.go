package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// drained is how long the tailnet's end may stay silent once the gateway's end has said everything.
const drained = 60 * time.Second

// listen makes a socket in the working directory, which only our user can enter.
func listen(name string, parent int) (net.Listener, error) {
	listener, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return nil, err
	}
	return &parentOnly{listener, parent}, nil
}

// parentOnly accepts connections of one process and closes those of every other.
type parentOnly struct {
	net.Listener
	parent int
}

func (l *parentOnly) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if err := isProcess(connection, l.parent); err != nil {
			log.Printf("a connection to %v was refused: %v", l.Addr(), err)
			connection.Close()
			continue
		}
		return connection, nil
	}
}

// isProcess asks the kernel whether the other end belongs to this process.
func isProcess(connection net.Conn, process int) error {
	socket, ok := connection.(*net.UnixConn)
	if !ok {
		return errors.New("not a unix socket")
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var found *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		found, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if asked != nil {
		return asked
	}
	if int(found.Pid) != process {
		return fmt.Errorf("process %d is at its other end, not %d", found.Pid, process)
	}
	return nil
}

// join copies both ways until both have ended, or one fails. An end of one way is passed on as such.
func join(gateway, peer net.Conn) {
	far := &draining{Conn: peer}
	var both sync.WaitGroup
	both.Add(2)
	carry := func(to, from net.Conn) {
		defer both.Done()
		if _, err := io.Copy(to, from); err != nil {
			gateway.Close()
			peer.Close()
			return
		}
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
	}
	go carry(gateway, far)
	go func() {
		carry(peer, gateway)
		// A gateway that has closed reads no more, and a unix socket cannot tell that from one that only says no more.
		far.begin()
	}()
	both.Wait()
}

// draining is a connection that, from begin on, gives up when nothing comes for a while.
type draining struct {
	net.Conn
	on atomic.Bool
}

func (d *draining) begin() {
	d.on.Store(true)
	d.SetReadDeadline(time.Now().Add(drained))
}

func (d *draining) Read(into []byte) (int, error) {
	if d.on.Load() {
		d.SetReadDeadline(time.Now().Add(drained))
	}
	return d.Conn.Read(into)
}
