package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// mostAccepted is how many connections from the tailnet may be open at once. The gateway has a lower limit of its own;
// this one bounds what a gateway that does not take them costs.
const mostAccepted = 4096

// config is what the gateway sends: one JSON object.
type config struct {
	Dir           string   `json:"dir"`            // of the node's state, absolute
	Hostname      string   `json:"hostname"`       // the name to ask for
	Port          uint16   `json:"port"`           // on the node's tailnet addresses
	ControlURL    string   `json:"control_url"`    // empty: Tailscale's own
	AuthKey       string   `json:"auth_key"`       // or the secret of an OAuth client; empty: the state holds a node, or a person follows the link
	AdvertiseTags []string `json:"advertise_tags"` // the tags to ask for
	Ephemeral     bool     `json:"ephemeral"`
	Parent        int      `json:"parent"` // the gateway's process
}

// parse reads the configuration, and refuses one that is not from this process's parent.
func parse(text string) (config, error) {
	var c config
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		// The decoder's error may quote what it read, and there is a secret in it.
		return c, errors.New("the configuration cannot be read")
	}
	if c.Dir == "" || c.Hostname == "" || c.Port == 0 {
		return c, errors.New("the configuration lacks the directory, the hostname or the port")
	}
	if parent := os.Getppid(); c.Parent != parent {
		return c, fmt.Errorf("the configuration comes from process %d, but %d is the parent", c.Parent, parent)
	}
	if hasProfile(c.Dir) && !c.Ephemeral {
		// The credential is for the first login only, unless the control server forgets the node in between. A control server may turn away a node that shows a key which has
		// ended since, whatever its state says; an OAuth secret would make a new key at every start; and a node that
		// somebody deleted must not come back by itself.
		c.AuthKey = ""
	}
	return c, nil
}

// hasProfile reports whether the state holds a node that was logged in before.
func hasProfile(dir string) bool {
	text, err := os.ReadFile(dir + "/tailscaled.state")
	if err != nil {
		return false
	}
	var state map[string]json.RawMessage
	if json.Unmarshal(text, &state) != nil {
		return false
	}
	profile, found := state["_current-profile"]
	return found && string(profile) != "null" && string(profile) != `""`
}
