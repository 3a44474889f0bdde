//! Our page tables as others read them: the types of crate `x86_64`, and KVM on the host's
//! hardware.

mod kvm;
mod types;
mod world;
