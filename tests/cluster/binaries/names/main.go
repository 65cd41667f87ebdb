// Names is the name server of the test cluster: "names KUBECONFIG ADDRESS DOMAIN" answers with
// the cluster's address of a Service to a question for SERVICE.NAMESPACE.svc.DOMAIN.
// It knows no other names: the pods of the tests need none.
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// names answers from the Services of the cluster, whose names end with suffix.
type names struct {
	services listers.ServiceLister
	suffix   string
}

// find returns the address of the Service with this name, and whether there is such a Service.
// A headless Service has no address.
func (n names) find(name string) (netip.Addr, bool) {
	short, ours := strings.CutSuffix(strings.ToLower(name), n.suffix)
	service, namespace, whole := strings.Cut(short, ".")
	if !ours || !whole {
		return netip.Addr{}, false
	}
	found, err := n.services.Services(namespace).Get(service)
	if err != nil {
		return netip.Addr{}, false
	}
	address, _ := netip.ParseAddr(found.Spec.ClusterIP)
	return address, true
}

// answer returns the reply to one message.
func (n names) answer(message []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	address, known := n.find(question.Name.String())
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, Authoritative: true,
			RecursionDesired: header.RecursionDesired,
		},
		Questions: []dnsmessage.Question{question},
	}
	switch {
	case !known:
		reply.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA && address.Is4():
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{
				Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1,
			},
			Body: &dnsmessage.AResource{A: address.As4()},
		}}
	}
	return reply.Pack()
}

func run(kubeconfig, address, domain string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	known := names{factory.Core().V1().Services().Lister(), ".svc." + domain + "."}
	factory.Start(context.Background().Done())
	// Nobody is told that a name does not exist because this is not known yet.
	factory.WaitForCacheSync(context.Background().Done())
	socket, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	message := make([]byte, 65535)
	for {
		size, asker, err := socket.ReadFrom(message)
		if err != nil {
			return err
		}
		reply, err := known.answer(message[:size])
		if err != nil {
			log.Printf("no answer to %s: %v", asker, err)
			continue
		}
		if _, err := socket.WriteTo(reply, asker); err != nil {
			log.Print(err)
		}
	}
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: names KUBECONFIG ADDRESS DOMAIN")
		os.Exit(2)
	}
	log.Fatal(run(os.Args[1], os.Args[2], os.Args[3]))
}
