//! Every way to put two stages in the wrong order: 66 pairs and 11 repeats. None compiles.
#![allow(unused)]

use gw_pipeline::pipeline::{Builder, slot};
use gw_pipeline::{NoFacts, plain};
use tower_layer::Identity;

/// A pipeline whose last filled slot is `Last`.
type At<Last> = Builder<Last, NoFacts, Identity, Identity>;

const ANY: gw_pipeline::pipeline::Plain<Identity> = plain(Identity::new());

fn observe_after_observe(pipeline: At<slot::Observe>) {
    pipeline.observe(ANY);
}

fn observe_after_request_id(pipeline: At<slot::RequestId>) {
    pipeline.observe(ANY);
}

fn request_id_after_request_id(pipeline: At<slot::RequestId>) {
    pipeline.request_id(ANY);
}

fn observe_after_route_resolve(pipeline: At<slot::RouteResolve>) {
    pipeline.observe(ANY);
}

fn request_id_after_route_resolve(pipeline: At<slot::RouteResolve>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_route_resolve(pipeline: At<slot::RouteResolve>) {
    pipeline.route_resolve(ANY);
}

fn observe_after_ip_filter(pipeline: At<slot::IpFilter>) {
    pipeline.observe(ANY);
}

fn request_id_after_ip_filter(pipeline: At<slot::IpFilter>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_ip_filter(pipeline: At<slot::IpFilter>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_ip_filter(pipeline: At<slot::IpFilter>) {
    pipeline.ip_filter(ANY);
}

fn observe_after_pre_auth_limit(pipeline: At<slot::PreAuthLimit>) {
    pipeline.observe(ANY);
}

fn request_id_after_pre_auth_limit(pipeline: At<slot::PreAuthLimit>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_pre_auth_limit(pipeline: At<slot::PreAuthLimit>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_pre_auth_limit(pipeline: At<slot::PreAuthLimit>) {
    pipeline.ip_filter(ANY);
}

fn pre_auth_limit_after_pre_auth_limit(pipeline: At<slot::PreAuthLimit>) {
    pipeline.pre_auth_limit(ANY);
}

fn observe_after_admit(pipeline: At<slot::Admit>) {
    pipeline.observe(ANY);
}

fn request_id_after_admit(pipeline: At<slot::Admit>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_admit(pipeline: At<slot::Admit>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_admit(pipeline: At<slot::Admit>) {
    pipeline.ip_filter(ANY);
}

fn pre_auth_limit_after_admit(pipeline: At<slot::Admit>) {
    pipeline.pre_auth_limit(ANY);
}

fn admit_after_admit(pipeline: At<slot::Admit>) {
    pipeline.admit(ANY);
}

fn observe_after_authenticate(pipeline: At<slot::Authenticate>) {
    pipeline.observe(ANY);
}

fn request_id_after_authenticate(pipeline: At<slot::Authenticate>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_authenticate(pipeline: At<slot::Authenticate>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_authenticate(pipeline: At<slot::Authenticate>) {
    pipeline.ip_filter(ANY);
}

fn pre_auth_limit_after_authenticate(pipeline: At<slot::Authenticate>) {
    pipeline.pre_auth_limit(ANY);
}

fn admit_after_authenticate(pipeline: At<slot::Authenticate>) {
    pipeline.admit(ANY);
}

fn authenticate_after_authenticate(pipeline: At<slot::Authenticate>) {
    pipeline.authenticate(ANY);
}

fn observe_after_post_auth_limit(pipeline: At<slot::PostAuthLimit>) {
    pipeline.observe(ANY);
}

fn request_id_after_post_auth_limit(pipeline: At<slot::PostAuthLimit>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_post_auth_limit(pipeline: At<slot::PostAuthLimit>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_post_auth_limit(pipeline: At<slot::PostAuthLimit>) {
    pipeline.ip_filter(ANY);
}

fn pre_auth_limit_after_post_auth_limit(pipeline: At<slot::PostAuthLimit>) {
    pipeline.pre_auth_limit(ANY);
}

fn admit_after_post_auth_limit(pipeline: At<slot::PostAuthLimit>) {
    pipeline.admit(ANY);
}

fn authenticate_after_post_auth_limit(pipeline: At<slot::PostAuthLimit>) {
    pipeline.authenticate(ANY);
}

fn post_auth_limit_after_post_auth_limit(pipeline: At<slot::PostAuthLimit>) {
    pipeline.post_auth_limit(ANY);
}

fn observe_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.observe(ANY);
}

fn request_id_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.ip_filter(ANY);
}

fn pre_auth_limit_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.pre_auth_limit(ANY);
}

fn admit_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.admit(ANY);
}

fn authenticate_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.authenticate(ANY);
}

fn post_auth_limit_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.post_auth_limit(ANY);
}

fn authorize_after_authorize(pipeline: At<slot::Authorize>) {
    pipeline.authorize(ANY);
}

fn observe_after_validate(pipeline: At<slot::Validate>) {
    pipeline.observe(ANY);
}

fn request_id_after_validate(pipeline: At<slot::Validate>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_validate(pipeline: At<slot::Validate>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_validate(pipeline: At<slot::Validate>) {
    pipeline.ip_filter(ANY);
}

fn pre_auth_limit_after_validate(pipeline: At<slot::Validate>) {
    pipeline.pre_auth_limit(ANY);
}

fn admit_after_validate(pipeline: At<slot::Validate>) {
    pipeline.admit(ANY);
}

fn authenticate_after_validate(pipeline: At<slot::Validate>) {
    pipeline.authenticate(ANY);
}

fn post_auth_limit_after_validate(pipeline: At<slot::Validate>) {
    pipeline.post_auth_limit(ANY);
}

fn authorize_after_validate(pipeline: At<slot::Validate>) {
    pipeline.authorize(ANY);
}

fn validate_after_validate(pipeline: At<slot::Validate>) {
    pipeline.validate(ANY);
}

fn observe_after_transform(pipeline: At<slot::Transform>) {
    pipeline.observe(ANY);
}

fn request_id_after_transform(pipeline: At<slot::Transform>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_transform(pipeline: At<slot::Transform>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_transform(pipeline: At<slot::Transform>) {
    pipeline.ip_filter(ANY);
}

fn pre_auth_limit_after_transform(pipeline: At<slot::Transform>) {
    pipeline.pre_auth_limit(ANY);
}

fn admit_after_transform(pipeline: At<slot::Transform>) {
    pipeline.admit(ANY);
}

fn authenticate_after_transform(pipeline: At<slot::Transform>) {
    pipeline.authenticate(ANY);
}

fn post_auth_limit_after_transform(pipeline: At<slot::Transform>) {
    pipeline.post_auth_limit(ANY);
}

fn authorize_after_transform(pipeline: At<slot::Transform>) {
    pipeline.authorize(ANY);
}

fn validate_after_transform(pipeline: At<slot::Transform>) {
    pipeline.validate(ANY);
}

fn transform_after_transform(pipeline: At<slot::Transform>) {
    pipeline.transform(ANY);
}

fn observe_after_forward(pipeline: At<slot::Forward>) {
    pipeline.observe(ANY);
}

fn request_id_after_forward(pipeline: At<slot::Forward>) {
    pipeline.request_id(ANY);
}

fn route_resolve_after_forward(pipeline: At<slot::Forward>) {
    pipeline.route_resolve(ANY);
}

fn ip_filter_after_forward(pipeline: At<slot::Forward>) {
    pipeline.ip_filter(ANY);
}

fn pre_auth_limit_after_forward(pipeline: At<slot::Forward>) {
    pipeline.pre_auth_limit(ANY);
}

fn admit_after_forward(pipeline: At<slot::Forward>) {
    pipeline.admit(ANY);
}

fn authenticate_after_forward(pipeline: At<slot::Forward>) {
    pipeline.authenticate(ANY);
}

fn post_auth_limit_after_forward(pipeline: At<slot::Forward>) {
    pipeline.post_auth_limit(ANY);
}

fn authorize_after_forward(pipeline: At<slot::Forward>) {
    pipeline.authorize(ANY);
}

fn validate_after_forward(pipeline: At<slot::Forward>) {
    pipeline.validate(ANY);
}

fn transform_after_forward(pipeline: At<slot::Forward>) {
    pipeline.transform(ANY);
}

fn main() {}
