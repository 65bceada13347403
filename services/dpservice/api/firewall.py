"""Firewall rules."""

from __future__ import annotations

from typing import Any

import grpc

from protos.dpdkironcore.v1 import dpdk_pb2 as pb
from services.dpservice.api import decode, decode_firewall, encode
from services.dpservice.api.answers import Door, answers
from services.dpservice.api.encode import SUCCESS, text
from services.dpservice.model.errors import OutOfMemory


class FirewallServicer(Door):
    """Rules of interfaces."""

    @answers(pb.CreateFirewallRuleResponse, engine_failed=OutOfMemory)
    def CreateFirewallRule(self, request: pb.CreateFirewallRuleRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        new = decode_firewall.new_rule(request.rule)
        self._dataplane.change(lambda model: (None, model.create_rule(wanted, new)))
        return pb.CreateFirewallRuleResponse(status=SUCCESS, rule_id=text(new.id))

    @answers(pb.GetFirewallRuleResponse)
    def GetFirewallRule(self, request: pb.GetFirewallRuleRequest, context: grpc.ServicerContext) -> Any:
        wanted, rule_id = decode.interface_id(request.interface_id), decode_firewall.rule_id(request.rule_id)
        rule = self._dataplane.read(lambda model: model.rule(wanted, rule_id))
        return pb.GetFirewallRuleResponse(status=SUCCESS, rule=encode.firewall_rule(rule_id, rule))

    @answers(pb.DeleteFirewallRuleResponse, engine_failed=OutOfMemory)
    def DeleteFirewallRule(self, request: pb.DeleteFirewallRuleRequest, context: grpc.ServicerContext) -> Any:
        wanted, rule_id = decode.interface_id(request.interface_id), decode_firewall.rule_id(request.rule_id)
        self._dataplane.change(lambda model: (None, model.delete_rule(wanted, rule_id)))
        return pb.DeleteFirewallRuleResponse(status=SUCCESS)

    @answers(pb.ListFirewallRulesResponse)
    def ListFirewallRules(self, request: pb.ListFirewallRulesRequest, context: grpc.ServicerContext) -> Any:
        wanted = decode.interface_id(request.interface_id)
        found = self._dataplane.read(lambda model: model.rules(wanted))
        rules = [encode.firewall_rule(rule_id, rule) for rule_id, rule in found]
        return pb.ListFirewallRulesResponse(status=SUCCESS, rules=rules)
