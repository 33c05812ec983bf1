// Runs Cilium's own keeper of the CNI configuration file, and nothing else of its agent.
package main

import (
	"log/slog"
	"os"

	"github.com/cilium/cilium/daemon/cmd/cni"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/hive"
	"github.com/cilium/hive/cell"
	"github.com/spf13/pflag"
)

func main() {
	keeper := hive.New(
		cni.Cell,
		cell.Provide(func() *option.DaemonConfig { return &option.DaemonConfig{} }),
		cell.Invoke(func(cni.CNIConfigManager) {}),
	)
	keeper.RegisterFlags(pflag.CommandLine)
	pflag.Parse()
	if err := keeper.Run(slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		os.Exit(1)
	}
}
