package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// proxyHeader is the header of the PROXY protocol, version 2, for a TCP connection between these two addresses.
// https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt section 2.2
func proxyHeader(remote, local net.Addr) ([]byte, error) {
	source, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return nil, fmt.Errorf("the peer's address: %w", err)
	}
	target, err := netip.ParseAddrPort(local.String())
	if err != nil {
		return nil, fmt.Errorf("our address: %w", err)
	}
	from, to := source.Addr().Unmap(), target.Addr().Unmap()
	if from.Is4() != to.Is4() {
		return nil, fmt.Errorf("addresses of two families: %v and %v", from, to)
	}
	family := byte(0x11) // TCP over IPv4
	if from.Is6() {
		family = 0x21 // TCP over IPv6
	}
	header := []byte("\r\n\r\n\x00\r\nQUIT\n\x21")
	header = append(header, family)
	header = binary.BigEndian.AppendUint16(header, uint16(2*len(from.AsSlice())+4))
	header = append(header, from.AsSlice()...)
	header = append(header, to.AsSlice()...)
	header = binary.BigEndian.AppendUint16(header, source.Port())
	return binary.BigEndian.AppendUint16(header, target.Port()), nil
}
