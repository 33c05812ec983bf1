// Asks host:port for /index.html and prints the answer as it came. (Busybox's nc closes its side of
// the connection after the request, which a proxy takes for a client that has gone.)
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

func main() {
	connection, err := net.DialTimeout("tcp", os.Args[1], 5*time.Second)
	if err == nil {
		connection.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(connection, "GET /index.html HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
		_, err = io.Copy(os.Stdout, connection)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
