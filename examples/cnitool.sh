#!/bin/sh
# A session with cnitool on a host where weftd runs and 10-weft.conflist is in place: a namespace gets an interface,
# shows it, and gives it back. Other folders and another name by the environment.
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
