// Probe is the one program of the test cluster's own tiny image. Without arguments it is the
// pause container that holds a pod's namespaces; "serve ADDRESS" answers every TCP connection
// with the pod's host name; "dial ADDRESS" prints such an answer; "echo WORDS" prints its words.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// pause waits for a signal to end, and reaps what the kernel hands to process 1 of a pod.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

func serve(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Println("serving", address, "as", name)
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(connection, name)
			connection.Close()
		}
	}()
	pause()
	return nil
}

func dial(address string) error {
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = io.Copy(os.Stdout, connection)
	return err
}

func main() {
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 0:
		pause()
	case len(arguments) == 2 && arguments[0] == "serve":
		err = serve(arguments[1])
	case len(arguments) == 2 && arguments[0] == "dial":
		err = dial(arguments[1])
	case arguments[0] == "echo":
		fmt.Println(strings.Join(arguments[1:], " "))
	default:
		err = fmt.Errorf("usage: probe [serve ADDRESS | dial ADDRESS | echo WORDS...]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
