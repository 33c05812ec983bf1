// Plays containerd's CRI plugin through the library that containerd itself uses, go-cni: it reads one
// request a line from stdin and answers each with a line on stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"strconv"

	gocni "github.com/containerd/go-cni"
)

type request struct {
	Command              string // load, add, del or status
	ID, Netns            string
	Namespace, Name, UID string
}

type network struct {
	Interface string   `json:"interface"`
	Name      string   `json:"name"`
	Types     []string `json:"types"`
}

type answer struct {
	Error    string    `json:"error,omitempty"`
	Networks []network `json:"networks,omitempty"`
}

func main() {
	confDir, binDir := os.Args[1], os.Args[2]
	maxConfNum, err := strconv.Atoi(os.Args[3])
	fatal(err)
	library, err := gocni.New(
		gocni.WithMinNetworkCount(1),
		gocni.WithPluginConfDir(confDir),
		gocni.WithPluginMaxConfNum(maxConfNum),
		gocni.WithPluginDir([]string{binDir}),
	)
	fatal(err)
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var r request
		fatal(json.Unmarshal(lines.Bytes(), &r))
		var a answer
		if err := serve(library, r); err != nil {
			a.Error = err.Error()
		}
		for _, n := range library.GetConfig().Networks {
			one := network{Interface: n.IFName, Name: n.Config.Name}
			for _, plugin := range n.Config.Plugins {
				one.Types = append(one.Types, plugin.Network.Type)
			}
			a.Networks = append(a.Networks, one)
		}
		fatal(out.Encode(a))
	}
}

func serve(library gocni.CNI, r request) error {
	options := []gocni.NamespaceOpts{
		gocni.WithLabels(map[string]string{
			"K8S_POD_NAMESPACE":          r.Namespace,
			"K8S_POD_NAME":               r.Name,
			"K8S_POD_INFRA_CONTAINER_ID": r.ID,
			"K8S_POD_UID":                r.UID,
			"IgnoreUnknown":              "1",
		}),
		gocni.WithCapability("dns", map[string][]string{"servers": {"10.96.0.10"}}),
	}
	switch r.Command {
	case "load": // what containerd does at its start and at each event in the folder
		return library.Load(gocni.WithDefaultConf)
	case "add":
		_, err := library.Setup(context.Background(), r.ID, r.Netns, options...)
		return err
	case "del":
		return library.Remove(context.Background(), r.ID, r.Netns, options...)
	default:
		return library.Status()
	}
}

func fatal(err error) {
	if err != nil {
		panic(err)
	}
}
