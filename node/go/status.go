package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"sync"

	"tailscale.com/client/local"
	"tailscale.com/ipn"
)

// status is one line on standard output: how far the node has come.
type status struct {
	State     string   `json:"state"`
	Addresses []string `json:"addresses,omitempty"`
	AuthURL   string   `json:"auth_url,omitempty"`
	Version   string   `json:"version,omitempty"`
	Error     string   `json:"error,omitempty"`
}

var (
	saying sync.Mutex
	said   status
)

// say writes a status, unless it was the last one written.
func say(s status) {
	saying.Lock()
	defer saying.Unlock()
	if reflect.DeepEqual(s, said) {
		return
	}
	said = s
	if line, err := json.Marshal(s); err == nil {
		fmt.Fprintf(os.Stdout, "%s\n", line)
	}
}

// watch says every change of the node's state, until ctx ends or the node does.
func watch(ctx context.Context, node *local.Client) error {
	bus, err := node.WatchIPNBus(ctx, ipn.NotifyInitialState)
	if err != nil {
		return err
	}
	defer bus.Close()
	problem, cleared := "", false
	for {
		notice, err := bus.Next()
		if err != nil {
			return err
		}
		if notice.ErrMessage != nil {
			problem = *notice.ErrMessage
		}
		if notice.State == nil && notice.BrowseToURL == nil && notice.SelfChange == nil && notice.NetMap == nil &&
			notice.ErrMessage == nil {
			continue
		}
		now, err := node.StatusWithoutPeers(ctx)
		if err != nil {
			return err
		}
		if now.BackendState == "Running" {
			problem = ""
			if !cleared {
				// The node serves nothing by itself, whatever its state directory says: no Serve and no Funnel.
				if err := node.SetServeConfig(ctx, new(ipn.ServeConfig)); err != nil {
					return fmt.Errorf("what the node serves by itself could not be cleared: %w", err)
				}
				cleared = true
			}
		}
		line := status{State: now.BackendState, AuthURL: now.AuthURL, Version: now.Version, Error: problem}
		for _, address := range now.TailscaleIPs {
			line.Addresses = append(line.Addresses, address.String())
		}
		say(line)
	}
}
