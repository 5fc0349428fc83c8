//! The documents of the project, and the blocks in them.

use std::path::Path;

/// A document by its path in the project.
#[derive(Debug)]
pub struct Document {
    pub name: String,
    pub text: String,
}

/// A fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub document: String,
    /// The line at which it begins.
    pub line: usize,
    /// What stands behind the fence: a language, and where it is from or where it is run.
    pub mark: String,
    pub text: String,
}

pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and its like, and all of docs/.
pub fn all() -> Vec<Document> {
    let pages = std::fs::read_dir(here().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages = pages.map(|path| format!("docs/{}", path.file_name().expect("a name").to_string_lossy()));
    let mut names: Vec<String> = pages.collect();
    names.sort();
    names.splice(..0, ["README.md", "SECURITY.md", "CONTRIBUTING.md"].map(str::to_owned));
    let read = |name: String| {
        let text = std::fs::read_to_string(here().join(&name)).expect("a document");
        Document { name, text }
    };
    names.into_iter().map(read).collect()
}

impl Document {
    /// Its fenced blocks. There are no indented ones: they cannot be marked.
    pub fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
        for (index, line) in self.text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(mark)) => {
                    let (document, mark) = (self.name.clone(), mark.to_owned());
                    open = Some(Block { document, line: index + 1, mark, text: String::new() });
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => block.text += &format!("{line}\n"),
                (None, None) => {
                    assert!(!line.starts_with("    "), "{}:{}: an indented block", self.name, index + 1);
                }
            }
        }
        assert!(open.is_none(), "{}: a block without an end", self.name);
        blocks
    }

    /// What stands between backquotes, outside of blocks. Such a piece may go on in the next line.
    pub fn quoted(&self) -> Vec<String> {
        let mut outside = true;
        let prose = self.text.lines().filter(|line| {
            let fence = line.starts_with("```");
            outside ^= fence;
            outside && !fence
        });
        let prose = prose.collect::<Vec<_>>().join("\n");
        prose.split('`').skip(1).step_by(2).map(|piece| piece.replace('\n', " ")).collect()
    }
}
