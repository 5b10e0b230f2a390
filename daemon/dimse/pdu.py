"""What PDUs begin with (PS3.8 9.3), and states of the upper layer (PS3.8 9.2) by pynetdicom's names."""

import struct

# Type and length.
PDU_HEADER = struct.Struct(">BxL")
# Length, presentation context ID and message control header.
PDV_HEADER = struct.Struct(">LBB")
A_ASSOCIATE_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA_TF = 0x01, 0x02, 0x03, 0x04
A_RELEASE_RQ, A_RELEASE_RP, A_ABORT = 0x05, 0x06, 0x07
IDLE, ESTABLISHED, AWAITING_CLOSE = "Sta1", "Sta6", "Sta13"
