//! The README's settings for providers are settings that are taken.

use std::path::Path;

/// Returns the blocks of settings in Markdown.
fn blocks(markdown: &str) -> impl Iterator<Item = &str> {
    markdown.split("```toml\n").skip(1).filter_map(|part| part.split_once("```")).map(|(block, _)| block)
}

/// Returns a line with what it says is in a file or in the environment.
fn with_secret(line: &str) -> String {
    let Some((name, _)) = line.split_once(" = ") else { return line.to_owned() };
    let Some(name) = name.strip_suffix("_file").or_else(|| name.strip_suffix("_env")) else { return line.to_owned() };
    let secret = match name {
        "aes_key" => "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG",
        // Of SMPP no more than 8 bytes.
        "password" => "a-secret",
        _ => "a-secret-of-some-length",
    };
    format!("{name} = \"{secret}\"")
}

#[test]
fn each_block_that_describes_a_provider_is_taken() {
    let readme = include_str!("../../README.md");
    let mut kinds = std::collections::BTreeSet::new();
    for block in blocks(readme).filter(|block| block.contains("[[provider]]")) {
        let text: Vec<_> = block.lines().map(with_secret).collect();
        let loaded = postrider::config::parse(Some((Path::new("README.md"), &text.join("\n"))), &[]);
        let settings = loaded.unwrap_or_else(|error| panic!("{error}\n{block}")).settings;
        assert!(!settings.providers.is_empty());
        kinds.extend(block.lines().filter_map(|line| line.strip_prefix("kind = ")));
    }
    for kind in ["smpp", "twilio", "aliyun-sms", "tencent-sms", "http", "wechat", "wecom", "asterisk"] {
        assert!(kinds.contains(&*format!("\"{kind}\"")), "no block for `{kind}`: {kinds:?}");
    }
}
