//! Compiles the API with a protobuf compiler written in Rust, so that building needs no protoc.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message as _;

/// Messages that carry numbers, names, bodies or secrets: their `Debug` is written by hand in `src/pb.rs` and shows none.
const SECRET: &[&str] = &[
    "postrider.v1.ApiKey",
    "postrider.v1.BatchItem",
    "postrider.v1.CallContent",
    "postrider.v1.CreateApiKeyResponse",
    "postrider.v1.CreateEndpointResponse",
    "postrider.v1.Job",
    "postrider.v1.JobSpec",
    "postrider.v1.JobSelector",
    "postrider.v1.PreviewTemplateRequest",
    "postrider.v1.PreviewTemplateResponse",
    "postrider.v1.Recipient",
    "postrider.v1.RotateSecretResponse",
    "postrider.v1.Signal",
    "postrider.v1.SmsContent",
    "postrider.v1.SubmitRequest",
    "postrider.v1.TemplateContent",
    "postrider.v1.WechatAddress",
    "postrider.v1.WecomAddress",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files = fs::read_dir(root.join("postrider/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<PathBuf>, _>>()?;
    files.sort();
    let descriptors = protox::compile(&files, [root])?;
    // For reflection: clients such as grpcurl ask the server itself for its messages.
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        // Maps in one order: the fingerprint of a request is a hash of its bytes.
        .btree_map(".")
        .skip_debug(SECRET.iter().copied())
        .compile_fds(descriptors)?;
    Ok(())
}
