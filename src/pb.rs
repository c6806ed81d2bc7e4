//! Generated types of the API, package `postrider.v1`.

use std::fmt;

#[expect(clippy::all, clippy::allow_attributes, clippy::too_many_lines, unused_qualifications, reason = "generated")]
mod generated {
    tonic::include_proto!("postrider.v1");
}

pub use generated::*;

/// The API's descriptors, for reflection and for tests over every method and field.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Messages that carry numbers, names, bodies or secrets show none of them in logs and panics.
macro_rules! redacted {
    ($($name:ident)+) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        })+
    };
}

redacted! {
    ApiKey BatchItem CallContent CreateApiKeyResponse CreateEndpointResponse Job JobSpec JobSelector
    PreviewTemplateRequest PreviewTemplateResponse Recipient RotateSecretResponse Signal SmsContent SubmitRequest
    TemplateContent WechatAddress WecomAddress
}
