// Plays CRI-O through the library that CRI-O itself uses, ocicni, with its own watch of the folder: it
// reads one request a line from stdin and answers each with a line on stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"

	"github.com/cri-o/ocicni/pkg/ocicni"
	"github.com/sirupsen/logrus"
)

type request struct {
	Command              string // load, add, del or status
	ID, Netns            string
	Namespace, Name, UID string
}

type network struct {
	Name string `json:"name"`
}

type answer struct {
	Error    string    `json:"error,omitempty"`
	Networks []network `json:"networks,omitempty"`
}

func main() {
	confDir, binDir, defaultNetwork := os.Args[1], os.Args[2], os.Args[3]
	logrus.SetOutput(os.Stderr)
	open := func() ocicni.CNIPlugin {
		// Without a cache folder, as CRI-O calls it: libcni's own is used.
		library, err := ocicni.InitCNI(defaultNetwork, confDir, binDir)
		fatal(err)
		return library
	}
	library := open()
	out := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var r request
		fatal(json.Unmarshal(lines.Bytes(), &r))
		var a answer
		if r.Command == "load" { // CRI-O's restart: its own watch would come a moment later
			fatal(library.Shutdown())
			library = open()
		} else if err := serve(library, r); err != nil {
			a.Error = err.Error()
		}
		if name := library.GetDefaultNetworkName(); name != "" && library.Status() == nil {
			a.Networks = []network{{Name: name}}
		}
		fatal(out.Encode(a))
	}
}

func serve(library ocicni.CNIPlugin, r request) error {
	pod := ocicni.PodNetwork{
		Name: r.Name, Namespace: r.Namespace, UID: r.UID, ID: r.ID, NetNS: r.Netns,
	}
	switch r.Command {
	case "add":
		_, err := library.SetUpPodWithContext(context.Background(), pod)
		return err
	case "del":
		return library.TearDownPodWithContext(context.Background(), pod)
	default:
		return library.StatusWithContext(context.Background())
	}
}

func fatal(err error) {
	if err != nil {
		panic(err)
	}
}
