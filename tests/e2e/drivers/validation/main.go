// What the init container kuma-validation does, from its description: it listens where the sidecar
// will, and connects from loopback to the passthrough address, on any port. Whoever reaches himself is
// redirected. Unlike the original it reads the answer, which another process would not give.
package main

import (
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"time"
)

const retries = 10

func check(network, loopback, passthrough string) error {
	listener, err := net.Listen(network, net.JoinHostPort(loopback, "15006"))
	if err != nil {
		return err
	}
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			io.WriteString(connection, loopback)
			connection.Close()
		}
	}()
	for try := 0; ; try++ {
		err = ask(network, loopback, passthrough)
		if err == nil || try == retries {
			return err
		}
		time.Sleep(time.Second)
	}
}

func ask(network, loopback, passthrough string) error {
	dialer := net.Dialer{
		Timeout:   50 * time.Millisecond,
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(loopback)},
	}
	port := fmt.Sprint(20000 + rand.Intn(10000))
	connection, err := dialer.Dial(network, net.JoinHostPort(passthrough, port))
	if err != nil {
		return err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(time.Second))
	said, err := io.ReadAll(connection)
	if err == nil && string(said) != loopback {
		err = fmt.Errorf("another process has answered %q", said)
	}
	return err
}

func main() {
	failed := false
	for _, family := range [][3]string{{"tcp4", "127.0.0.1", "127.0.0.6"}, {"tcp6", "::1", "::6"}} {
		if err := check(family[0], family[1], family[2]); err != nil {
			fmt.Printf("%s is not redirected: %v\n", family[2], err)
			failed = true
		} else {
			fmt.Printf("%s is redirected\n", family[2])
		}
	}
	if failed {
		os.Exit(1)
	}
}
