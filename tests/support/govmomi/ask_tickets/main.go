// A client of govmomi, as govc is: it logs in, finds machines by their names and asks for a webmks
// ticket of each one. It prints one line of JSON for each ticket.
//
// The environment has the same names as that of govc: GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD and
// GOVC_TLS_CA_CERTS, the authorities that have to have signed the certificate of the server.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/url"
	"os"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
)

func ask(ctx context.Context, machines []string) error {
	address, err := soap.ParseURL(os.Getenv("GOVC_URL"))
	if err != nil {
		return err
	}
	transport := soap.NewClient(address, false)
	if err := transport.SetRootCAs(os.Getenv("GOVC_TLS_CA_CERTS")); err != nil {
		return err
	}
	client, err := vim25.NewClient(ctx, transport)
	if err != nil {
		return err
	}
	manager := session.NewManager(client)
	user := url.UserPassword(os.Getenv("GOVC_USERNAME"), os.Getenv("GOVC_PASSWORD"))
	if err := manager.Login(ctx, user); err != nil {
		return err
	}
	all, err := view.NewManager(client).CreateContainerView(
		ctx, client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return err
	}
	for _, name := range machines {
		found, err := all.Find(ctx, []string{"VirtualMachine"}, property.Filter{"name": name})
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("%d machines have the name %s", len(found), name)
		}
		ticket, err := object.NewVirtualMachine(client, found[0]).AcquireTicket(ctx, "webmks")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		err = json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
			"ticket":     ticket.Ticket,
			"host":       ticket.Host,
			"port":       ticket.Port,
			"url":        ticket.Url,
			"thumbprint": ticket.SslThumbprint,
		})
		if err != nil {
			return err
		}
	}
	return manager.Logout(ctx)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := ask(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}
