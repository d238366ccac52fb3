//! The description of what back ends are sent and what they answer, as webhooks of OpenAPI.

use serde_json::Value;
use utoipa::{
    PartialSchema as _, ToSchema,
    openapi::{
        ArrayBuilder, Components, Content, HttpMethod, OpenApi, Paths, Ref, RefOr, Response,
        Schema, path::OperationBuilder, request_body::RequestBody,
    },
};

use super::{
    admission::{AdmissionQuestion, WrittenAdmission},
    cloud_event::{BATCH_TYPE, CallData, CloudEvent, MEDIA_TYPE},
    decisions::{DecisionQuestion, WrittenDecision},
    reply::Written,
};

/// Adds to `document` the requests that a back end gets, and the answers that the gateway understands.
pub fn describe_webhooks(document: &mut OpenApi) {
    let mut webhooks = Webhooks {
        components: document.components.take().unwrap_or_default(),
        paths: Paths::new(),
    };
    webhooks.question::<CallData<'_>, Written>(
        "call",
        "An event of a client, with `mode = \"call\"` in `[[events]]`. The answer is its acknowledgement",
    );
    webhooks.question::<DecisionQuestion<'_>, WrittenDecision>(
        "authorize",
        "The question whether a user may do something in a room with `authorize = \"backend\"` in `[[rooms]]`",
    );
    webhooks.question::<AdmissionQuestion<'_>, WrittenAdmission>(
        "connect",
        "The question whether a client may connect or renew its token, with `[connect]`",
    );
    webhooks.stored::<CallData<'_>>(
        "notify",
        "Events of clients, with `mode = \"notify\"` in `[[events]]`. They may come again with the same id",
    );
    webhooks.stored::<Value>(
        "lifecycle",
        "Events of `[[lifecycle]]`. They may come again with the same id",
    );
    document.components = Some(webhooks.components);
    document.webhooks = Some(webhooks.paths);
}

struct Webhooks {
    components: Components,
    paths: Paths,
}

impl Webhooks {
    /// Describes a request with one event, whose answer counts.
    fn question<Q: ToSchema, A: ToSchema>(&mut self, name: &str, summary: &str) {
        let event = self.event::<Q>();
        let request = RequestBody::builder().content(MEDIA_TYPE, Content::new(Some(event)));
        self.add_schema::<A>();
        let answer = Content::new(Some(Ref::from_schema_name(A::name())));
        let answer = Response::builder()
            .description("What the gateway does")
            .content("application/json", answer);
        self.add(name, summary, (request.build(), answer.build()));
    }

    /// Describes a request with stored events, whose answer is not read.
    fn stored<T: ToSchema>(&mut self, name: &str, summary: &str) {
        let event = self.event::<T>();
        let events = ArrayBuilder::new().items(event.clone()).build();
        let request = RequestBody::builder()
            .content(MEDIA_TYPE, Content::new(Some(event)))
            .content(BATCH_TYPE, Content::new(Some(events)));
        let answer = Response::new("Taken: the events are not sent again");
        self.add(name, summary, (request.build(), answer));
    }

    fn add(&mut self, name: &str, summary: &str, (request, answer): (RequestBody, Response)) {
        let operation = OperationBuilder::new()
            .summary(Some(summary))
            .request_body(Some(request))
            .response("200", answer);
        self.paths
            .add_path_operation(name, vec![HttpMethod::Post], operation);
    }

    /// Returns the schema of an event with this content. It has no name of its own: those of all events would be the same.
    fn event<T: ToSchema>(&mut self) -> RefOr<Schema> {
        self.add_schema::<T>();
        CloudEvent::<'_, T>::schema()
    }

    /// Adds a schema and those that it refers to.
    fn add_schema<T: ToSchema>(&mut self) {
        let mut schemas = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut schemas);
        self.components.schemas.extend(schemas);
    }
}
