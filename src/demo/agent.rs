//! The agent of the demo: a short script that really edits the checkout it is started in.

use crate::domain::agent::Agent;
use crate::domain::agent_stream::OutputFormat;

pub const NAME: &str = "demo";

/// The sample repository: a shop whose greeting is misspelt.
pub const SAMPLE: [(&str, &str); 3] = [
    ("README.md", "# Shop\n\nA tiny shop. It greets its customers with `Helo, wrld`.\n"),
    ("greet.sh", "#!/bin/sh\necho \"Helo, wrld\"\n"),
    ("LICENSE", "Do as you like.\n"),
];

/// Corrects the greeting wherever it stands; in another repository it writes the wish down.
const SCRIPT: &str = r#"
set -eu
task=$(sed -n '/^The task, from/,$p' | sed -n '3p')
echo "Task: $task"
files=$(git grep -l -F 'Helo, wrld' || true)
if [ -n "$files" ]; then
  for file in $files; do
    sed -i 's/Helo, wrld/Hello, world/' "$file"
    echo "Corrected the greeting in $file"
  done
  echo "The greeting is spelt correctly now, in the script and in the README."
else
  printf '%s\n' "$task" >> WISHES.md
  echo "Wrote the wish down in WISHES.md."
fi
"#;

pub fn agent() -> Agent {
    Agent {
        name: NAME.to_owned(),
        install: None,
        check: None,
        command: ["sh", "-c", SCRIPT].map(ToOwned::to_owned).to_vec(),
        model_flag: None,
        env: Vec::new(),
        home_files: Vec::new(),
        access: Vec::new(),
        sessions: None,
        mcp: None,
        takes_all_access: false,
        output: OutputFormat::Text,
    }
}
