"""What P-DATA-TF PDUs begin with (PS3.8 9.3.5), and states of the upper layer (PS3.8 9.2) by pynetdicom's names."""

import struct

# Type and length.
PDU_HEADER = struct.Struct(">BxL")
# Length, presentation context ID and message control header.
PDV_HEADER = struct.Struct(">LBB")
P_DATA_TF = 0x04
IDLE, ESTABLISHED, AWAITING_CLOSE = "Sta1", "Sta6", "Sta13"
