//! Greet: a task type to start from. It greets everybody on a list, one after the other.

use std::time::Duration;

use longrun::prelude::*;

/// One value serves all attempts: what is in here is what the type depends on.
pub struct Greet {
    pub sender: String,
}

/// What a client sends. These comments are in the API's description.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Who is greeted
    #[schemars(length(min = 1, max = 1000), example = ["Ada"])]
    names: Vec<String>,
}

/// What a client gets.
#[derive(Serialize)]
pub struct Output {
    greetings: Vec<String>,
}

impl TaskKind for Greet {
    const NAME: &'static str = "greet";
    const DESCRIPTION: &'static str = "Greets everybody on a list";
    type Input = Input;
    type Output = Output;

    fn defaults(&self) -> Defaults {
        Defaults { timeout: Some(Duration::from_secs(3600)), ..Defaults::default() }
    }

    async fn run(&self, input: Input, ctx: Context) -> Result<Output, Failure> {
        // Killed or drained, the task begins again here, with what the last checkpoint says.
        let mut greetings: Vec<String> = ctx.resume().unwrap_or_default();
        for name in &input.names[greetings.len().min(input.names.len())..] {
            ctx.sleep(Duration::from_millis(200)).await?;
            greetings.push(format!("Hello {name}, says {}", self.sender));
            ctx.info(format!("greeted {name}"));
            ctx.checkpoint(&greetings)?;
            // Progress, and the place where a cancel takes hold.
            ctx.step(greetings.len() as u64, input.names.len() as u64)?;
        }
        Ok(Output { greetings })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn greet() -> Greet {
        Greet { sender: "the test".to_owned() }
    }

    #[tokio::test]
    async fn everybody_is_greeted_once() {
        let done = testing::run(greet(), json!({"names": ["Ada", "Grace"]})).await;
        assert_eq!(done.result()["greetings"][1], "Hello Grace, says the test");
        assert_eq!(done.last_progress(), Some((2, Some(2))));
    }

    #[tokio::test]
    async fn it_goes_on_where_it_was() {
        let task = testing::task(greet(), json!({"names": ["Ada", "Grace"]})).resume(json!(["Hello Ada"]));
        assert_eq!(task.run().await.texts(), ["greeted Grace"]);
    }
}
