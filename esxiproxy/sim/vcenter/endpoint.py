"""The SOAP endpoint of a simulated vCenter without HTTP: a request's body in, an answer's body out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from esxiproxy.sim.vcenter import demands, soap, soap_faults
from esxiproxy.sim.vcenter.demands import Demands
from esxiproxy.sim.vcenter.options import VCenterOptions
from esxiproxy.sim.vcenter.session_calls import Call, NewSession, Result, SessionCalls
from esxiproxy.sim.vcenter.sessions import SessionStore, VCenterSession
from esxiproxy.sim.vcenter.soap import BadSoap, ReceivedCall, Value
from esxiproxy.sim.vcenter.soap_faults import VimFault


class TransportFault(Exception):
    """Raised for a call whose connection misbehaves; `kind` is one of `demands.TRANSPORT`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class SoapAnswer:
    """An answer: its HTTP status, its body, and the session that the call has opened."""

    status: int
    body: bytes
    session: VCenterSession | None = None


class SoapEndpoint:
    """Calls methods and turns their results into answers. `counts` has the number of calls by method."""

    def __init__(
        self,
        options: VCenterOptions,
        sessions: SessionStore,
        services: SessionCalls,
        machine_calls: Mapping[tuple[str, str], Call],
        clock: IReactorTime,
    ) -> None:
        self.demands = Demands()
        self.counts: Counter[str] = Counter()
        self._options = options
        self._sessions = sessions
        self._services = services
        self._calls = {**services.calls, **machine_calls}
        self._clock = clock

    async def answer(self, body: bytes, action: str, token: str | None) -> SoapAnswer:
        """Return the answer to a request. Raises TransportFault."""
        version, made, method = soap.OLDEST, NewSession(), "Unknown"
        try:
            call = soap.read_call(body, action)
            method, version = call.method, min(call.version, self._options.newest)
            value = await self.perform(call, token, made)
        except BadSoap as error:
            refused = soap_faults.invalid_request(str(error))
            return SoapAnswer(500, soap.fault_response(refused.fault, refused.message, version))
        except VimFault as fault:
            return SoapAnswer(500, soap.fault_response(fault.fault, fault.message, version))
        return SoapAnswer(200, soap.response(method, value, version), made.session)

    async def perform(self, call: ReceivedCall, token: str | None, made: NewSession) -> Value:
        """Return the result of a call. Raises BadSoap, VimFault and TransportFault.

        `made` gets the session that the call has opened.
        """
        self.counts[call.method] += 1
        if call.version > self._options.newest:
            version = ".".join(map(str, call.version))
            raise soap_faults.invalid_request(f'Unsupported version URI "urn:vim25/{version}"')
        await self._misbehave(call)
        result = self._call(call, token, made)
        value: Value = await result if isinstance(result, Deferred) else result
        return value

    def _call(self, call: ReceivedCall, token: str | None, made: NewSession) -> Result:
        if call.method == "RetrieveServiceContent":
            return self._services.content()
        if call.method == "Login":
            return self._services.log_in(call, made)
        if call.method == "CloneSession":
            return self._services.clone(call, made)
        session = self._sessions.find(token)
        if session is None:
            raise soap_faults.not_authenticated(call.target)
        if self._services.resolve(call.target, session) is None:
            raise soap_faults.not_found(call.target)
        if call.method == "Fetch":
            return self._services.fetch(call, session)
        handler = self._calls.get((call.target.type, call.method))
        if handler is None:
            raise soap_faults.method_not_found(call.method, call.target)
        return handler(call, session)

    async def _misbehave(self, call: ReceivedCall) -> None:
        demand = self.demands.take(call.method, call.target.moid)
        if demand is None:
            return
        if demand.seconds:
            await deferLater(self._clock, demand.seconds)
        if demand.fault in demands.TRANSPORT:
            raise TransportFault(demand.fault)
        if demand.fault is not None:
            raise soap_faults.NAMED[demand.fault]()
