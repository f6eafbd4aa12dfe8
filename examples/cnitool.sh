#!/bin/sh
# A session with cnitool on a host where weftd runs and 10-weft.conflist is installed. It makes a namespace, attaches it,
# shows its interface, and detaches it. Environment variables set other folders and another name.
set -eux
: "${CNI_PATH:=/opt/cni/bin}" "${NETCONFPATH:=/etc/cni/net.d}" "${NAME:=weft-session}"
export CNI_PATH NETCONFPATH

ip netns add "$NAME"
trap 'ip netns del "$NAME"' EXIT
cnitool add weft "/run/netns/$NAME"
cnitool check weft "/run/netns/$NAME"
ip -n "$NAME" addr show eth0
ip -n "$NAME" route
cnitool del weft "/run/netns/$NAME"
