//! The numbers of the messages in both directions (sections "Front-end message types" and
//! "Back-end message types").

use thiserror::Error;

/// A message has a number that the protocol does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "{sender} sent message {number}, which vhost-user does not define; check the versions of both programs"
)]
pub struct UnknownRequest {
    /// Who sent it.
    pub sender: &'static str,
    /// The number.
    pub number: u32,
}

macro_rules! requests {
    (
        $(#[$meta:meta])*
        $name:ident, $sender:literal {
            $( $(#[$item_meta:meta])* $item:ident = $number:literal, $word:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $name {
            $( $(#[$item_meta])* $item = $number, )*
        }

        impl $name {
            /// All messages in this direction.
            pub const ALL: &'static [Self] = &[$(Self::$item),*];

            /// The message's number.
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The specification's name, without its prefix.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$item => $word, )*
                }
            }
        }

        impl TryFrom<u32> for $name {
            type Error = UnknownRequest;

            fn try_from(number: u32) -> Result<Self, UnknownRequest> {
                match number {
                    $( $number => Ok(Self::$item), )*
                    _ => Err(UnknownRequest { sender: $sender, number }),
                }
            }
        }
    };
}

requests! {
    /// What a front-end asks of a back-end.
    FrontendRequest, "the front-end" {
        /// Which features does the device offer?
        GetFeatures = 1, "GET_FEATURES";
        /// These features were acknowledged.
        SetFeatures = 2, "SET_FEATURES";
        /// A session starts.
        SetOwner = 3, "SET_OWNER";
        /// Deprecated: disable all rings.
        ResetOwner = 4, "RESET_OWNER";
        /// All regions of guest memory at once.
        SetMemTable = 5, "SET_MEM_TABLE";
        /// The dirty log.
        SetLogBase = 6, "SET_LOG_BASE";
        /// An eventfd to signal when the dirty log was written.
        SetLogFd = 7, "SET_LOG_FD";
        /// Entries of a ring.
        SetVringNum = 8, "SET_VRING_NUM";
        /// Addresses of a ring.
        SetVringAddr = 9, "SET_VRING_ADDR";
        /// Where to start in a ring.
        SetVringBase = 10, "SET_VRING_BASE";
        /// Stop a ring; where did it stop?
        GetVringBase = 11, "GET_VRING_BASE";
        /// The eventfd for kicks; starts the ring.
        SetVringKick = 12, "SET_VRING_KICK";
        /// The eventfd for calls.
        SetVringCall = 13, "SET_VRING_CALL";
        /// The eventfd for errors.
        SetVringErr = 14, "SET_VRING_ERR";
        /// Which protocol features does the back-end have?
        GetProtocolFeatures = 15, "GET_PROTOCOL_FEATURES";
        /// These protocol features are used.
        SetProtocolFeatures = 16, "SET_PROTOCOL_FEATURES";
        /// How many queues are there at most?
        GetQueueNum = 17, "GET_QUEUE_NUM";
        /// Enable or disable a ring.
        SetVringEnable = 18, "SET_VRING_ENABLE";
        /// Announce a MAC address to the network.
        SendRarp = 19, "SEND_RARP";
        /// The MTU that the guest sees.
        NetSetMtu = 20, "NET_SET_MTU";
        /// The socket for the back-end's requests.
        SetBackendReqFd = 21, "SET_BACKEND_REQ_FD";
        /// An entry of the IOTLB.
        IotlbMsg = 22, "IOTLB_MSG";
        /// Byte order of a legacy ring.
        SetVringEndian = 23, "SET_VRING_ENDIAN";
        /// Read the device's configuration.
        GetConfig = 24, "GET_CONFIG";
        /// Write the device's configuration.
        SetConfig = 25, "SET_CONFIG";
        /// Open a crypto session.
        CreateCryptoSession = 26, "CREATE_CRYPTO_SESSION";
        /// Close a crypto session.
        CloseCryptoSession = 27, "CLOSE_CRYPTO_SESSION";
        /// A postcopy migration will come.
        PostcopyAdvise = 28, "POSTCOPY_ADVISE";
        /// The postcopy migration begins.
        PostcopyListen = 29, "POSTCOPY_LISTEN";
        /// The postcopy migration is over.
        PostcopyEnd = 30, "POSTCOPY_END";
        /// Make an in-flight region.
        GetInflightFd = 31, "GET_INFLIGHT_FD";
        /// Here is the in-flight region.
        SetInflightFd = 32, "SET_INFLIGHT_FD";
        /// The GPU's own socket.
        GpuSetSocket = 33, "GPU_SET_SOCKET";
        /// Reset the device.
        ResetDevice = 34, "RESET_DEVICE";
        /// A kick as a message.
        VringKick = 35, "VRING_KICK";
        /// How many memory regions at most?
        GetMaxMemSlots = 36, "GET_MAX_MEM_SLOTS";
        /// One more memory region.
        AddMemReg = 37, "ADD_MEM_REG";
        /// One memory region less.
        RemMemReg = 38, "REM_MEM_REG";
        /// The device status that the driver wrote.
        SetStatus = 39, "SET_STATUS";
        /// Which device status does the driver read?
        GetStatus = 40, "GET_STATUS";
        /// An object shared between back-ends.
        GetSharedObject = 41, "GET_SHARED_OBJECT";
        /// The channel by which the device's state is saved or loaded.
        SetDeviceStateFd = 42, "SET_DEVICE_STATE_FD";
        /// Was the state transferred?
        CheckDeviceState = 43, "CHECK_DEVICE_STATE";
        /// Which shared memory regions does the device have?
        GetShmemConfig = 44, "GET_SHMEM_CONFIG";
    }
}

requests! {
    /// What a back-end asks of a front-end.
    BackendRequest, "the back-end" {
        /// An IOTLB miss or failure.
        IotlbMsg = 1, "BACKEND_IOTLB_MSG";
        /// The device's configuration changed.
        ConfigChangeMsg = 2, "BACKEND_CONFIG_CHANGE_MSG";
        /// A page by which the guest kicks directly.
        VringHostNotifierMsg = 3, "BACKEND_VRING_HOST_NOTIFIER_MSG";
        /// A call as a message.
        VringCall = 4, "BACKEND_VRING_CALL";
        /// A ring's error as a message.
        VringErr = 5, "BACKEND_VRING_ERR";
        /// An object for other back-ends.
        SharedObjectAdd = 6, "BACKEND_SHARED_OBJECT_ADD";
        /// The object is gone.
        SharedObjectRemove = 7, "BACKEND_SHARED_OBJECT_REMOVE";
        /// Another back-end's object is wanted.
        SharedObjectLookup = 8, "BACKEND_SHARED_OBJECT_LOOKUP";
        /// Map a file into a shared memory region.
        ShmemMap = 9, "BACKEND_SHMEM_MAP";
        /// Unmap it.
        ShmemUnmap = 10, "BACKEND_SHMEM_UNMAP";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vhost::vhost_user::message as vhost;

    #[test]
    fn numbers_are_dense_and_round_trip() {
        assert_eq!((FrontendRequest::ALL.len(), BackendRequest::ALL.len()), (44, 10));
        for number in 0..100 {
            let front = FrontendRequest::try_from(number);
            assert_eq!(front.is_ok(), (1..=44).contains(&number));
            assert!(front.is_err() || front.unwrap().number() == number);
            assert_eq!(BackendRequest::try_from(number).is_ok(), (1..=10).contains(&number));
        }
    }

    #[test]
    fn numbers_agree_with_the_vhost_crate() {
        for &ours in FrontendRequest::ALL {
            let theirs = vhost::FrontendReq::try_from(ours.number()).unwrap();
            assert_eq!(format!("{theirs:?}"), ours.name());
        }
        for &ours in BackendRequest::ALL {
            let theirs = vhost::BackendReq::try_from(ours.number()).unwrap();
            assert_eq!(format!("BACKEND_{theirs:?}"), ours.name());
        }
    }
}
