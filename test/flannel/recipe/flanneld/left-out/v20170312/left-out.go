// Package v20170312 is in the place of a library of the backend "tencent-vpc", which the tests do not use and which not
// every mirror of Go modules has. flanneld compiles with it; the backend always fails.
package v20170312

import "errors"

var errLeftOut = errors.New("this build leaves the backend tencent-vpc out")

type Filter struct {
	Name   *string
	Values []*string
}

type Route struct {
	RouteId              *uint64
	DestinationCidrBlock *string
	GatewayType          *string
	GatewayId            *string
	RouteType            *string
	Enabled              *bool
}

type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

type DescribeRouteTablesRequest struct{ Filters []*Filter }

type DescribeRouteTablesResponse struct {
	Response struct{ RouteTableSet []*RouteTable }
}

// RoutesRequest creates or deletes routes.
type RoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

type Client struct{}

func NewClientWithSecretId(_, _, _ string) (*Client, error) { return &Client{}, nil }

func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}

func NewDeleteRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

func NewCreateRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errLeftOut
}

func (*Client) DeleteRoutes(*RoutesRequest) (any, error) { return nil, errLeftOut }

func (*Client) CreateRoutes(*RoutesRequest) (any, error) { return nil, errLeftOut }
