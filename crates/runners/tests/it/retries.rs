//! Retries of exec work: which failures are final.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use soloist::{
    Context, Coordinator, Failure, Json, MemoryStore, ModelOptions, Result, RunTerms, Runner, Status,
};
use soloist_runners::{
    demo::FailTask,
    exec::{ExecOptions, ExecRunner},
};

use crate::world::{World, command, exec, shell};

/// Three retries without a wait worth mentioning.
fn thrice() -> ModelOptions {
    let terms = RunTerms { max_retries: 3, ..RunTerms::default() };
    ModelOptions { terms, retry_delay: Duration::from_millis(5), ..ModelOptions::default() }
}

#[tokio::test]
async fn a_final_exit_code_is_not_tried_again_and_another_one_is() {
    for (script, attempts, message) in [
        ("exit 64", 1, "exit code 64"),
        ("exit 255", 1, "exit code 255"),
        ("exit 63", 4, "exit code 63"),
        ("[ $SOLOIST_TASK_ATTEMPT = 2 ] && exit 64; exit 1", 2, "exit code 64"),
    ] {
        let options = ExecOptions { final_exit_codes: vec![64, 255], ..shell(script) };
        let ran = World::on_terms(exec(options), thrice()).await.run("t/Model", "{}").await;
        assert_eq!(ran.failure(), ("ExitCode", message), "{script}");
        assert_eq!(ran.task.attempt, attempts, "{script}");
    }
}

/// Lets any input pass, as that of a task may that was created before its model changed.
struct Unchecked(ExecRunner);

#[async_trait]
impl Runner for Unchecked {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn check(&self, _: &Json) -> Result<()> {
        Ok(())
    }

    async fn run(&self, input: Json, context: Context) -> Result<Json, Failure> {
        self.0.run(input, context).await
    }

    fn lease_renewed(&self, work_ends_at: Duration) {
        self.0.lease_renewed(work_ends_at);
    }
}

#[tokio::test]
async fn a_template_that_cannot_be_filled_in_is_not_tried_again() {
    let runner = Unchecked(exec(command(&["echo", "{input.a}"])));
    let ran = World::on_terms(runner, thrice()).await.run("t/Model", "{}").await;
    assert_eq!((ran.failure().0, ran.task.attempt), ("InvalidInput", 1));
}

#[tokio::test]
async fn the_demo_model_that_fails_completes_once_it_has_failed_often_enough() {
    for (times, status, attempts) in
        [(0, Status::Completed, 1), (2, Status::Completed, 3), (4, Status::Failed, 4)]
    {
        let builder = Coordinator::builder(Arc::new(MemoryStore::new()));
        let coordinator = builder.register_with::<FailTask>("t", thrice()).open().await.unwrap();
        let input = format!(r#"{{"message":"it broke","times":{times}}}"#);
        let ran = World { coordinator }.run("t/FailTask", &input).await;
        assert_eq!((ran.task.status, ran.task.attempt), (status, attempts));
        assert_eq!(ran.of_type("start").len(), attempts as usize);
    }
}
