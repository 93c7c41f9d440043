// The vCenter simulator of govmomi with AcquireTicket added.
//
// A ticket comes from a simulated ESXi host of ours, so that it opens a console. The hosts of the
// inventory take turns with the hosts that -console names.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const currentTime = `<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Body>` +
	`<CurrentTime xmlns="urn:vim25"><_this type="ServiceInstance">ServiceInstance</_this></CurrentTime>` +
	`</Body></Envelope>`

// console is a simulated ESXi host: where its tickets come from, and what a ticket says of it.
type console struct {
	Tickets    string `json:"tickets"`
	Host       string `json:"host"`
	Port       int32  `json:"port"`
	Thumbprint string `json:"thumbprint"`
}

type consoles []console

func (c *consoles) String() string { return fmt.Sprint(len(*c)) }

func (c *consoles) Set(text string) error {
	var one console
	if err := json.Unmarshal([]byte(text), &one); err != nil {
		return err
	}
	*c = append(*c, one)
	return nil
}

// tickets answers AcquireTicket, which the simulator does not have, and passes on all other requests.
type tickets struct {
	next     http.Handler
	consoles consoles
}

func (t *tickets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if r.Method != http.MethodPost || !bytes.Contains(body, []byte("AcquireTicket")) {
		t.next.ServeHTTP(w, r)
		return
	}
	method, err := simulator.UnmarshalBody(types.TypeFunc(), body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request, ok := method.Body.(*types.AcquireTicket)
	if !ok {
		t.next.ServeHTTP(w, r)
		return
	}
	// The simulator says whether the session is valid: it answers a call that needs one.
	checked := httptest.NewRecorder()
	check := r.Clone(r.Context())
	check.Body = io.NopCloser(strings.NewReader(currentTime))
	t.next.ServeHTTP(checked, check)
	if checked.Code != http.StatusOK {
		w.WriteHeader(checked.Code)
		_, _ = w.Write(checked.Body.Bytes())
		return
	}
	ticket, fault := t.acquire(request)
	if fault != nil {
		w.WriteHeader(http.StatusInternalServerError)
		name := strings.TrimPrefix(fmt.Sprintf("%T", fault), "*types.")
		fmt.Fprintf(w, `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
			`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><s:Body><s:Fault>`+
			`<faultcode>ServerFaultCode</faultcode><faultstring>%s</faultstring><detail>`+
			`<%sFault xmlns="urn:vim25" xsi:type="%s">`, name, name, name)
		if state, ok := fault.(*types.InvalidPowerState); ok {
			fmt.Fprintf(w, "<existingState>%s</existingState>", state.ExistingState)
		}
		fmt.Fprintf(w, "</%sFault></detail></s:Fault></s:Body></s:Envelope>", name)
		return
	}
	answer := methods.AcquireTicketBody{Res: &types.AcquireTicketResponse{Returnval: *ticket}}
	fmt.Fprint(w, xml.Header)
	if err := xml.NewEncoder(w).Encode(&soap.Envelope{Body: answer}); err != nil {
		log.Print(err)
	}
}

func (t *tickets) acquire(request *types.AcquireTicket) (*types.VirtualMachineTicket, types.BaseMethodFault) {
	vm, ok := simulator.Map.Get(request.This).(*simulator.VirtualMachine)
	if !ok {
		return nil, &types.ManagedObjectNotFound{Obj: request.This}
	}
	if request.TicketType != "webmks" {
		return nil, &types.InvalidArgument{InvalidProperty: "ticketType"}
	}
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return nil, &types.InvalidPowerState{ExistingState: vm.Runtime.PowerState}
	}
	var hosts []string
	for _, host := range simulator.Map.All("HostSystem") {
		hosts = append(hosts, host.Reference().Value)
	}
	sort.Strings(hosts)
	place := t.consoles[sort.SearchStrings(hosts, vm.Runtime.Host.Value)%len(t.consoles)]
	answer, err := http.Get(place.Tickets)
	if err != nil {
		return nil, &types.HostNotConnected{}
	}
	defer answer.Body.Close()
	ticket, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, &types.HostNotConnected{}
	}
	return &types.VirtualMachineTicket{
		Ticket:        string(ticket),
		CfgFile:       vm.Config.Files.VmPathName,
		Host:          place.Host,
		Port:          place.Port,
		SslThumbprint: place.Thumbprint,
		Url:           fmt.Sprintf("wss://%s:%d/ticket/%s", place.Host, place.Port, ticket),
	}, nil
}

func main() {
	var places consoles
	machines := flag.Int("machines", 1000, "number of machines")
	hosts := flag.Int("hosts", 3, "number of hosts")
	standalone := flag.Bool("esx", false, "simulate a standalone host")
	certificate := flag.String("certificate", "", "PEM file with the certificate")
	key := flag.String("key", "", "PEM file with its key")
	user := flag.String("user", "user", "user; the password is in the environment, SIMULATOR_PASSWORD")
	flag.DurationVar(&simulator.SessionIdleTimeout, "idle", 30*time.Minute, "end of an idle session")
	flag.Var(&places, "console", "a simulated host as JSON: tickets, host, port, thumbprint; may be repeated")
	flag.Parse()
	if len(places) == 0 {
		log.Fatal("-console is missing")
	}

	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatal(err)
	}
	model := simulator.VPX()
	if *standalone {
		model = simulator.ESX()
	} else {
		model.Host, model.ClusterHost = 0, *hosts
	}
	model.Machine = *machines
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	password := url.UserPassword(*user, os.Getenv("SIMULATOR_PASSWORD"))
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: password}
	server := model.Service.NewServer()
	server.Config.Handler = &tickets{server.Config.Handler, places}
	fmt.Printf("{\"url\": \"https://%s\"}\n", server.URL.Host)

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	model.Remove()
}
