"""Numbers of the kernel's netlink interface, named as in its headers.

From include/uapi/linux/: netlink.h, rtnetlink.h, if_link.h, if_addr.h, fib_rules.h, veth.h,
if_bridge.h, net_namespace.h, nsfs.h; and asm-generic/socket.h. They are stable ABI.
"""

import struct

# netlink.h
NETLINK_ROUTE = 0
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_ACK_TLVS = 0x200
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLMSGERR_ATTR_MSG = 1
NLA_TYPE_MASK = 0x3FFF
NLA_F_NESTED = 0x8000

# asm-generic/socket.h
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_NETNS_COOKIE = 71

# rtnetlink.h
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26
RTM_NEWNEIGH = 28
RTM_GETNEIGH = 30
RTM_NEWRULE = 32
RTM_DELRULE = 33
RTM_GETRULE = 34
RTM_NEWNSID = 88
RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_PRIORITY = 6
RTA_PREFSRC = 7
RTA_MULTIPATH = 9
RTA_TABLE = 15
RTA_VIA = 18
RTN_UNICAST = 1
RTPROT_KERNEL = 2
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_LINK = 253
RT_TABLE_UNSPEC = 0
IP6_RT_PRIO_USER = 1024
RTEXT_FILTER_SKIP_STATS = 8

# if.h, if_link.h
IFF_UP = 0x1
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINK = 5
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_IFALIAS = 20
IFLA_AF_SPEC = 26
IFLA_GROUP = 27
IFLA_NET_NS_FD = 28
IFLA_EXT_MASK = 29
IFLA_NUM_TX_QUEUES = 31
IFLA_NUM_RX_QUEUES = 32
IFLA_CARRIER = 33
IFLA_LINK_NETNSID = 37
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_INFO_SLAVE_KIND = 4
IFLA_INFO_SLAVE_DATA = 5
IFLA_BR_FORWARD_DELAY = 1
IFLA_BR_STP_STATE = 5
IFLA_BR_MCAST_SNOOPING = 23
IFLA_BR_NF_CALL_IPTABLES = 36
IFLA_BR_NF_CALL_IP6TABLES = 37
IFLA_BR_NF_CALL_ARPTABLES = 38
IFLA_BRPORT_MODE = 4
IFLA_MACVLAN_MODE = 1
IFLA_IPVLAN_MODE = 1
IFLA_INET_CONF = 1
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
IPV4_DEVCONF_ROUTE_LOCALNET = 26
VETH_INFO_PEER = 1

# if_addr.h
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
IFA_FLAGS = 8
IFA_F_NODAD = 0x02
IFA_F_PERMANENT = 0x80

# fib_rules.h
FRA_SRC = 2
FRA_PRIORITY = 6
FRA_TABLE = 15
FRA_PROTOCOL = 21
FR_ACT_TO_TBL = 1

# neighbour.h
NDA_DST = 1
NDA_LLADDR = 2

# net_namespace.h
NETNSA_NSID = 1
NETNSA_FD = 3
NETNSA_NSID_NOT_ASSIGNED = -1

# nsfs.h, sched.h
NS_GET_NSTYPE = 0xB703
CLONE_NEWNET = 0x40000000

NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
NLATTR = struct.Struct("=HH")  # length, type
IFINFOMSG = struct.Struct("=BxHiII")  # family, device type, index, flags, change
IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
# family, dst length, src length, tos, table, protocol, scope, type (for rules: action), flags
RTMSG = struct.Struct("=BBBBBBBBI")
RTGENMSG = struct.Struct("=Bxxx")  # family
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
RTNEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index
U32 = struct.Struct("=I")
I32 = struct.Struct("=i")
