// A configuration message as YAML that reads back to the same values, and the schema as help for people.
#pragma once

#include <map>
#include <string>

#include "trainer/config/run_config.h"

namespace google::protobuf {
class Descriptor;
class Message;
}  // namespace google::protobuf

namespace jevons {

// Every option with its value, in the order of the schema; options that have none are left out.
std::string write_yaml(const google::protobuf::Message& message, Comments comments);

// Every option's value under its key, elements of lists counted: "data.train.0.path".
std::map<std::string, std::string> flat_values(const google::protobuf::Message& message,
                                               const std::string& prefix = "");

std::string describe_options(const google::protobuf::Descriptor& root, SchemaFormat format);

}  // namespace jevons
